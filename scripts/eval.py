"""``fieldmorph eval``: how close a field's pictures come to held-out photographs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import Positional

from .. import progress
from ..errors import UserError
from .options import Compute, Talk, WarmUp, check_file_target, claim_folder, open_scene, start_folder, value, write_text

if TYPE_CHECKING:
    from ..datasets.scene import Scene
    from ..render.types import Rendering
    from ..representations.field import Field
    from ..training import Evaluation
    from ..training.evaluation import ImageScore


@dataclass(frozen=True, kw_only=True)
class Eval(Compute, Talk):
    """Score a field on held-out views: PSNR, SSIM and seconds per image.

    The protocol (split, background, averaging, windows) is printed and saved with the numbers.
    """

    field: Annotated[Positional[Path], value("RUN_OR_FIELD")]
    """Run folder or field file."""
    data: Annotated[Path | None, value("DATA", "what it was trained on")] = None
    """Dataset with the photographs to compare with."""
    split: Annotated[str, value("NAME", "test")] = "test"
    """Which images of the dataset: train, val or test."""
    limit: Annotated[int | None, value("N", "all")] = None
    """Score only the first N images."""
    json: Annotated[Path | None, value("FILE")] = None
    """Write means, every image's numbers and the protocol as JSON; - prints it."""
    images: Annotated[Path | None, value("FOLDER")] = None
    """Save the rendered views as PNG files."""
    overwrite: bool = False
    """Allow --images to be a folder that holds something."""

    def run(self) -> int:
        to_stdout = self.json is not None and str(self.json) == "-"
        self.talk(messages_to_stderr=to_stdout)
        if self.limit is not None and self.limit < 1:
            raise UserError(f"--limit {self.limit}: score at least one image")
        if self.json is not None and not to_stdout:
            check_file_target(self.json, "--json")
        if self.images is not None:
            claim_folder(self.images, overwrite=self.overwrite)
        device = self.choose_device()
        from ..training import load_run_or_field
        from ..training.evaluation import require_split

        field = load_run_or_field(self.field, device=str(device))
        warm_up = WarmUp(field, device)
        data = self.data or recorded_data(self.field)
        scene = open_scene(data)
        compare_fingerprint(field, scene, data)
        require_split(scene, self.split)
        progress.say(f"scoring {self.field} ({field.family}) on the {self.split} images of {data}")
        if self.images is not None:
            start_folder(self.images)
        warm_up.wait()
        result = run_evaluation(field, scene, self.split, limit=self.limit, images=self.images)
        if progress.verbosity() >= progress.VERBOSE:
            progress.table(("image", "psnr", "ssim", "seconds"), [(i.name, i.psnr, i.ssim, i.seconds) for i in result.images])
        report(result, self.field)
        text = json.dumps({**result.to_dict(), "field": str(self.field), "data": str(data)}, indent=2)
        if to_stdout:
            print(text)
        elif self.json is not None:
            write_text(self.json, text + "\n")
            progress.say(f"wrote {self.json}")
        return 0


def recorded_data(field: Path) -> Path:
    """The dataset a run folder, or the one around a field file, says it was trained on.

    Raises:
        UserError: it says none.
    """
    from ..training.run import CONFIG_NAME, config_values

    run = field if field.is_dir() else field.absolute().parent
    if (run / CONFIG_NAME).exists():
        data = config_values(run).get("data")
        if isinstance(data, str):
            return Path(data)
    raise UserError(f"{field} does not say what it was trained on; name the dataset with --data")


def compare_fingerprint(field: Field, scene: Scene, data: Path) -> None:
    """Warn where the dataset is not the one the field comes from."""
    theirs = field.metadata.get("fingerprint")
    if theirs is not None and theirs != scene.fingerprint:
        progress.warn(f"{data} is not, or no longer, the dataset this field was trained on; positions and scores may not fit")


def run_evaluation(field: Field, scene: Scene, split: str, *, limit: int | None = None, images: Path | None = None) -> Evaluation:
    """Score with a progress bar; ``images`` also receives the pictures."""
    from ..render.images import save_image
    from ..training import evaluate

    total = min(len(scene.split.get(split, [])), limit or 1 << 30)
    with progress.Bar(f"eval {split}", total or 1, "images") as bar:

        def follow(done: int, of: int, score: ImageScore, rendering: Rendering) -> None:
            if images is not None:
                save_image(images / f"{Path(score.name).stem}.png", rendering.rgb.clamp(0, 1).cpu())
            bar.update(done, psnr=round(score.psnr, 2))

        return evaluate(field, scene, split, limit=limit, on_image=follow)


def report(result: Evaluation, path: Path) -> None:
    """Quality, and beside it what it takes: the bytes of the field file at ``path`` (or in that run folder)."""
    file = path / "field.field" if path.is_dir() else path
    size = f", {progress.format_bytes(file.stat().st_size)}" if file.is_file() else ""
    mean, protocol = result.mean, result.protocol
    lpips = "not computed" if mean["lpips"] is None else f"{mean['lpips']:.4f}"
    progress.say(f"psnr {mean['psnr']:.2f} dB, ssim {mean['ssim']:.4f}, lpips {lpips}, {mean['seconds']:.2f} s per image{size}")
    if "psnr_moving" in mean:
        share = 100.0 * mean["moving_share"]
        progress.say(
            f"where something moves ({share:.1f} % of the pixels): {mean['psnr_moving']:.2f} dB, elsewhere {mean['psnr_still']:.2f} dB"
        )
    width, height = protocol["size"]
    progress.say(f"protocol: {protocol['images']} {protocol['split']} images of {width}x{height}, background {protocol['background']}")
    for name in ("psnr", "ssim", "alpha"):
        progress.detail(f"  {name}: {protocol[name]}")
