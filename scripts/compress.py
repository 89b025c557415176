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
    from ..compress.search import Goal, Probe
    from ..datasets.scene import Scene
    from ..representations.field import Field
    from ..training.trainer import BatchSource

UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "KIB": 1 << 10, "MIB": 1 << 20}
DEFAULT_DROP = 0.2
PROBE_RAYS = 1 << 15
SLOW_PROBE_RAYS = 1 << 12
"""The same for a field without compiled kernels."""


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
    keep: Annotated[float | None, value("SHARE")] = None
    """Prune a hash grid first: greatest share of the box that stays salient (HollowNeRF), for example 0.08."""
    seed: Annotated[int, value("K")] = 0
    """Seed of all that is random."""
    overwrite: bool = False
    """Replace --out if it exists."""

    def run(self) -> int:
        self.talk()
        goal = self._goal()
        claim_file(self.out, overwrite=self.overwrite)
        device = self.choose_device()
        from ..compress.pack import PackOptions, pack_field
        from ..representations.edited import EditedField
        from ..training import load_run_or_field

        field = load_run_or_field(self.field, device=str(device))
        if isinstance(field, EditedField):
            raise UserError(f"{self.field} has edits; bake them first with fieldmorph edit --bake, or compress before editing")
        if not field.metadata.get("cameras"):
            raise UserError(f"{self.field} has no recorded cameras, which say what must be kept; train it with fieldmorph train")
        options = PackOptions(goal, self.keep, self._seconds(field), self.seed)
        warm_up = WarmUp("hollow" if self.keep is not None else field.family, device)
        scene = self._scene(field)
        batches = self._batches(field, scene) if options.seconds else None
        warm_up.wait()
        probe = self._probe(field, scene)
        packed = pack_field(field, self.out, probe, options, batches)
        share = 100.0 * packed.size / (4 * packed.parameters)
        progress.say(
            f"wrote {self.out} ({progress.format_bytes(packed.size)}, {share:.1f} % of its {packed.parameters} parameters as float32): "
            f"{packed.found.drop:.2f} dB below the unpacked field's {probe.psnr:.2f} dB"
        )
        if goal.spent(packed.found) > 1.0:
            progress.warn("the target was out of reach; this is the nearest that was found")
        return 0

    def _seconds(self, field: Field) -> float:
        """How long to train on, checked."""
        if self.keep is not None and not 0.0 < self.keep < 1.0:
            raise UserError(f"--keep {self.keep}: give the share of space that may stay, between 0 and 1")
        if self.keep is not None and field.family != "hashgrid":
            raise UserError(f"--keep prunes hash grids; this field is a {field.family}, which is packed as it is")
        if self.seconds is None:
            return 0.0 if self.keep is None else 120.0
        if not 0.0 <= self.seconds < 1e7 or (self.keep is not None and self.seconds == 0.0):
            raise UserError(f"--seconds {self.seconds}: give a time in seconds" + (", for pruning has to be learned" if self.keep else ""))
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

    def _probe(self, field: Field, scene: Scene | None) -> Probe:
        """Rays of held-out photographs where there are any, else of the recorded cameras."""
        import torch

        from ..compress.search import ASSUMED_PSNR, Probe
        from ..compress.sensitivity import random_rays
        from ..render.renderer import background_color, which_renderer
        from ..training.batches import PhotoBatches
        from ..training.evaluation import eval_settings

        settings = eval_settings(field)
        count = PROBE_RAYS if which_renderer(field) == "fused" else SLOW_PROBE_RAYS
        generator = torch.Generator().manual_seed(self.seed)
        if scene is None:
            progress.say(f"no photographs: the loss is measured against the unpacked field, which is taken to have {ASSUMED_PSNR:.0f} dB")
            return Probe(field, random_rays(field, count, generator), settings, None)
        split = next(s for s in ("val", "test", "train") if scene.split.get(s))
        batch = PhotoBatches(scene, split, field.device).next(count, generator)
        behind = background_color(field, settings.background)
        progress.say(f"the loss is measured on {count} pixels of the {split} images of {scene.root}")
        return Probe(field, batch.rays, settings, batch.over(torch.zeros(3) if behind is None else behind.detach()))

    def _batches(self, field: Field, scene: Scene | None) -> BatchSource:
        """The training photographs, or the field itself as a teacher of what becomes of it."""
        import copy

        from ..training.batches import PhotoBatches
        from ..training.teacher import Teacher, TeacherBatches

        if scene is not None:
            return PhotoBatches(scene, "train", field.device)
        return TeacherBatches(Teacher(copy.deepcopy(field)))

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
