"""``fieldmorph reproduce rate-distortion``: quality against size, as HollowNeRF and the papers on compression draw it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional

from .. import progress
from ..errors import UserError
from .options import Compute, Talk, WarmUp, claim_folder, open_scene, start_folder, value, write_text


@dataclass(frozen=True, kw_only=True)
class RateDistortion(Compute, Talk):
    """Plain and pruned hash grids of several tables, packed and not: PSNR against parameters and against bytes.

    Writes results.json, report.md, rate-distortion.png and a run folder per table. Interrupted, it goes on where it
    stopped when started again with --resume.
    """

    data: Annotated[Positional[Path], value("DATA")]
    """Folder of a dataset, or its transforms.json."""
    out: Annotated[Path, value("FOLDER")]
    """Folder to write to."""
    seconds: Annotated[float, value("S")] = 300.0
    """Training time of every run."""
    steps: Annotated[int | None, value("N")] = None
    """Budget of every run in optimisation steps, in place of --seconds."""
    tables: Annotated[tuple[int, ...], value("N")] = (11, 12, 13, 14, 15, 16, 17)
    """log2 of the tables' rows."""
    hollow: Annotated[tuple[int, ...] | None, value("N", "as --tables")] = None
    """log2 of the rows of tables that are pruned."""
    packed: Annotated[tuple[int, ...], value("N")] = (13, 15, 17)
    """Tables of which packed variants are made."""
    keep: Annotated[float, value("SHARE")] = 0.1
    """Greatest share of the saliency grid that pruning leaves open."""
    saliency: Annotated[int, value("N")] = 32
    """Vertices along a side of the saliency grid."""
    samples: Annotated[int | None, value("N", "the hash grid's own")] = None
    """Field evaluations per step."""
    occupancy: Annotated[int, value("N")] = 128
    """Cells along a side of the occupancy grid; a coarse one leaves more for the saliency grid to rule out."""
    limit: Annotated[int | None, value("N", "all")] = None
    """Score only the first N test images."""
    seed: Annotated[int, value("K")] = 0
    """Seed of all that is random."""
    resume: bool = False
    """Go on with what --out holds."""

    def run(self) -> int:
        self.talk()
        if not self.tables or not all(6 <= t <= 22 for t in (*self.tables, *(self.hollow or ()), *self.packed)):
            raise UserError("--tables and --packed are powers of two from 6 to 22, for example --tables 11 13 15")
        claim_folder(self.out, resume=self.resume)
        device = self.choose_device()
        from ..benchmarks.rate_distortion import Sweep, describe, draw, frame_seconds, report, results, sweep

        try:
            plan = Sweep(
                *(self.tables, None if self.steps else self.seconds, self.steps, self.keep, self.saliency, self.samples, self.occupancy),
                *(self.packed, self.hollow, self.limit, self.seed),
            )
        except ValueError as error:
            raise UserError(str(error)) from error
        warm_up, hollow = WarmUp("hashgrid", device), WarmUp("hollow", device)
        scene = open_scene(self.data)
        start_folder(self.out)
        settings = self.out / "settings.json"
        text = json.dumps({"data": str(self.data), **describe(plan)}, indent=1)
        if settings.exists() and settings.read_text() != text:
            raise UserError(f"{self.out} was started with other settings; give the same flags, or name another folder")
        write_text(settings, text)
        warm_up.wait()
        hollow.wait()
        rows = sweep(scene, self.out, plan, on_row=_say)
        seconds = frame_seconds(scene, self.out, plan)
        draw(rows, self.out / "rate-distortion.png", scene.name)
        write_text(self.out / "results.json", json.dumps(results(rows, seconds, plan, scene.name), indent=1) + "\n")
        text = report(rows, seconds)
        write_text(self.out / "report.md", text)
        progress.say(text)
        progress.say(f"wrote {self.out / 'report.md'}, results.json and rate-distortion.png")
        return 0


def _say(row: dict[str, Any]) -> None:
    packed = "" if row["step"] is None else f" packed at {row['step']:.0e}"
    size = progress.format_bytes(row["bytes"])
    progress.say(f"{row['kind']} 2^{row['table']}{packed}: {row['psnr']:.2f} dB, {row['parameters']} parameters, {size}")
