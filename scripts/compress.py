"""``fieldmorph compress``: a field in as few bytes as its quality allows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional

from .. import progress
from ..errors import UserError
from .eval import compare_fingerprint, recorded_data
from .options import Compute, Talk, WarmUp, claim_file, open_scene, value

if TYPE_CHECKING:
    from types import TracebackType

    from ..compress.pack import Packed, Report
    from ..compress.search import Goal
    from ..datasets.scene import Scene
    from ..representations.field import Field

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "KIB": 1 << 10, "MIB": 1 << 20}
DEFAULT_DROP = 0.2


@dataclass(frozen=True, kw_only=True)
class Compress(Compute, Talk):
    """Pack a field: drop what no ray reaches, quantise the rest, entropy-code it. The file loads wherever the field did.

    Give a target size or the quality that may be lost; how close it came is printed.
    """

    field: Annotated[Positional[Path], value("RUN_OR_FIELD")]
    """Run folder or field file."""
    out: Annotated[Path, value("FILE")]
    """Field file to write."""
    target_size: Annotated[str | None, value("SIZE")] = None
    """Most bytes of the file: 500000, 500KB, 0.5MB (10^6 bytes), 512KiB."""
    target_psnr_drop: Annotated[float | None, value("DB", f"{DEFAULT_DROP} without --target-size")] = None
    """Most PSNR that may be lost."""
    data: Annotated[Path | None, value("DATA", "what it was trained on, where that is known")] = None
    """Dataset whose photographs the loss is measured on; without one, the unpacked field itself is what is compared with."""
    seconds: Annotated[float | None, value("S", "0, with --keep 120")] = None
    """Train on for so long, with quantised numbers: from the photographs if known, else from the field itself as it was."""
    steps: Annotated[int | None, value("N")] = None
    """The same in optimisation steps."""
    keep: Annotated[float | None, value("SHARE")] = None
    """Prune first: greatest share of the box that stays, of a hash grid by its saliency (HollowNeRF), of voxels by what shows
    most; for example 0.08."""
    seed: Annotated[int, value("K")] = 0
    """Seed of all that is random."""
    overwrite: bool = False
    """Replace --out if it exists."""

    def run(self) -> int:
        self.talk()
        goal = self._goal()
        claim_file(self.out, overwrite=self.overwrite)
        if self.out.exists() and self.field.exists() and self.out.samefile(self.field):
            raise UserError(f"--out {self.out} is the field that is to be packed, and packing loses something; name another file")
        device = self.choose_device()
        from ..compress.pack import PackOptions
        from ..compress.run import check_packable, compress_field, make_probe
        from ..compress.search import ASSUMED_PSNR
        from ..training import load_run_or_field

        field = load_run_or_field(self.field, device=str(device))
        check_packable(field, str(self.field))
        options = PackOptions(goal, self.keep, self._seconds(field), self.steps, self.seed)
        warm_up = WarmUp("hollow" if self.keep is not None and field.family == "hashgrid" else field, device)
        scene = self._scene(field)
        warm_up.wait()
        probe = make_probe(field, scene, self.seed)
        if scene is None:
            progress.say(f"no photographs: the loss is measured against the unpacked field, which is taken to have {ASSUMED_PSNR:.0f} dB")
        else:
            progress.say(f"the loss is measured on {len(probe.rays)} pixels of the {probe.split} images of {scene.root}")
        with Bars() as bars:
            packed = compress_field(field, self.out, options, scene, probe=probe, follow=bars)
        share = 100.0 * packed.size / (4 * packed.parameters)
        progress.say(
            f"wrote {self.out} ({progress.format_bytes(packed.size)}, {share:.1f} % of its {packed.parameters} parameters as float32): "
            f"{probe.psnr - packed.found.drop:.2f} dB, {packed.found.drop:.2f} dB below the unpacked field's {probe.psnr:.2f} dB"
        )
        self._compare(goal, packed)
        return 0

    def _compare(self, goal: Goal, packed: Packed) -> None:
        """How close it came."""
        if goal.size is not None:
            text = f"{packed.size} of at most {goal.size} bytes, {100.0 * packed.size / goal.size:.1f} %"
        else:
            text = f"{packed.found.drop:.3f} of at most {goal.drop} dB lost"
        if goal.spent(packed.found) > 1.0:
            progress.warn(f"the target was out of reach; this is the nearest that was found: {text}")
        else:
            progress.say(f"target: {text}")

    def _seconds(self, field: Field) -> float:
        """How long to train on, checked."""
        if self.keep is not None and not 0.0 < self.keep < 1.0:
            raise UserError(f"--keep {self.keep}: give the share of space that may stay, between 0 and 1")
        if self.keep is not None and field.family not in ("hashgrid", "voxels"):
            raise UserError(f"--keep prunes hash grids and voxels; {self.field} is of family {field.family}, which is packed as it is")
        if self.steps is not None:
            if self.seconds is not None:
                raise UserError("give the training as --steps or as --seconds, not both")
            if not 1 <= self.steps < 1 << 31:
                raise UserError(f"--steps {self.steps}: give a number of optimisation steps")
            return 0.0
        if self.seconds is None:
            return 0.0 if self.keep is None else 120.0
        learned = self.keep is not None and field.family == "hashgrid"
        if not 0.0 <= self.seconds < 1e7 or (learned and self.seconds == 0.0):
            raise UserError(f"--seconds {self.seconds}: give a time in seconds" + (", for pruning has to be learned" if learned else ""))
        return self.seconds

    def _goal(self) -> Goal:
        from ..compress.search import Goal

        if self.target_size is not None and self.target_psnr_drop is not None:
            raise UserError("give --target-size or --target-psnr-drop, not both")
        if self.target_size is not None:
            return Goal(size=parse_bytes(self.target_size))
        drop = DEFAULT_DROP if self.target_psnr_drop is None else self.target_psnr_drop
        if not 0.001 <= drop <= 20.0:
            raise UserError(f"--target-psnr-drop {drop}: give a loss of 0.001 to 20 dB")
        return Goal(drop=drop)

    def _scene(self, field: Field) -> Scene | None:
        data = self.data
        if data is None:
            try:
                data = recorded_data(self.field)
            except UserError:
                return None
            if not data.exists():
                return None
        scene = open_scene(data)
        compare_fingerprint(field, scene, data)
        return scene


class Bars:
    """A progress bar for each stage of packing; a new one where a stage begins again."""

    def __init__(self) -> None:
        self._bar: progress.Bar | None = None
        self._done = 0.0

    def __call__(self, report: Report) -> None:
        if self._bar is None or self._bar.title != report.stage or report.done < self._done:
            self.__exit__(None, None, None)
            self._bar = progress.Bar(report.stage, report.total, report.unit)
            self._bar.__enter__()
        self._done = report.done
        facts = {k: round(v, 3) if isinstance(v, float) else v for k, v in report.facts.items()}
        self._bar.update(report.done, count=report.count, **facts)

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.__exit__(kind, error, trace)
            self._bar = None


def parse_bytes(text: str) -> int:
    """``0.5MB`` to 500000.

    Raises:
        UserError: no number, an unknown unit, or less than a kilobyte.
    """
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([A-Za-z]*)", text.strip())
    unit = UNITS.get(match[2].upper()) if match else None
    if match is None or unit is None or not 1000 <= float(match[1]) * unit <= 1e12:
        raise UserError(f"--target-size {text}: write a size such as 500000, 500KB or 0.5MB, at least 1KB")
    return int(float(match[1]) * unit)
