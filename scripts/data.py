"""``fieldmorph data make`` and ``fieldmorph data info``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from .. import progress
from .options import Talk, describe_scene, open_scene, value


@dataclass(frozen=True, kw_only=True)
class DataMake(Talk):
    """Ray-trace the project's own scene: a dataset with exact cameras to train on.

    Writes the layout of NeRF-Synthetic: train/, val/ and test/ with RGBA pictures, and transforms_*.json. With --dynamic
    a moving scene, filmed by several cameras, in the layout of the Plenoptic Video dataset: camNN.mp4 and poses_bounds.npy.
    """

    out: Annotated[Positional[Path], value("FOLDER")]
    """Folder to write."""
    size: Annotated[int, value("PIXELS", "200")] = 200
    """Width and height of each picture."""
    train: Annotated[int, value("N", "100")] = 100
    """Pictures to train on."""
    val: Annotated[int, value("N", "10")] = 10
    """Pictures to watch training by."""
    test: Annotated[int, value("N", "25")] = 25
    """Pictures to score on."""
    seed: Annotated[int, value("K", "0")] = 0
    """Another seed makes another arrangement."""
    samples: Annotated[int, value("N", "3")] = 3
    """Squared, the most rays that form a pixel."""
    dynamic: bool = False
    """Make the moving scene; --size is then the width of 4:3 frames, and --train, --val and --test do not count."""
    cameras: Annotated[int, value("N", "12")] = 12
    """With --dynamic: cameras; the first is held out."""
    frames: Annotated[int, value("N", "60")] = 60
    """With --dynamic: frames of each film."""
    overwrite: bool = False
    """Replace the scene that FOLDER holds."""

    def run(self) -> int:
        self.talk()
        if self.dynamic:
            write_video_scene(self)
            return 0
        counts = {"train": self.train, "val": self.val, "test": self.test}
        write_scene(self.out, counts, size=self.size, seed=self.seed, samples=self.samples, overwrite=self.overwrite)
        return 0


def write_scene(out: Path, counts: dict[str, int], *, size: int, seed: int = 0, samples: int = 3, overwrite: bool = False) -> None:
    """Make the scene with a progress bar; ``counts`` are the pictures of each split."""
    from ..datasets.procedural import make_scene

    total = sum(counts.values())
    progress.say(f"making {total} pictures of {size}x{size} in {out}")
    with progress.Bar("scene", max(1, total), "pictures") as bar:
        make_scene(out, **counts, size=size, seed=seed, samples=samples, overwrite=overwrite, progress=lambda done, _: bar.update(done))
    progress.say(f"wrote {out}: {', '.join(f'{count} {split}' for split, count in counts.items())}")


def write_video_scene(options: DataMake) -> None:
    """Make the moving scene with a progress bar."""
    from ..datasets.procedural import make_video_scene

    width, height = options.size // 2 * 2, round(options.size * 0.375) * 2
    progress.say(f"making {options.cameras} films of {options.frames} frames of {width}x{height} in {options.out}")
    with progress.Bar("scene", max(1, options.frames), "moments") as bar:
        make_video_scene(
            options.out, cameras=options.cameras, frames=options.frames, width=width, height=height, seed=options.seed,
            samples=options.samples, overwrite=options.overwrite, progress=lambda done, _: bar.update(done),
        )  # fmt: skip
    progress.say(f"wrote {options.out}")


@dataclass(frozen=True, kw_only=True)
class DataInfo(Talk):
    """Describe a dataset: pictures, cameras, box, and what is odd about it."""

    data: Annotated[Positional[Path], value("DATA")]
    """Folder of a dataset, or its transforms.json."""
    json: bool = False
    """Print JSON."""
    cameras: Annotated[Path | None, value("FILE.png", "no picture")] = None
    """Draw a plan of the cameras, from above and from the side."""

    def run(self) -> int:
        self.talk(messages_to_stderr=self.json)
        scene = open_scene(self.data)
        from ..datasets.summary import draw_cameras, summarize

        summary = summarize(scene)
        if self.json:
            print(json.dumps(summary.to_dict(), indent=2))
        else:
            progress.say(f"{self.data}: {describe_scene(scene)}")
            for line in summary.lines():
                progress.say(line)
        if self.cameras is not None:
            draw_cameras(scene, self.cameras)
            progress.say(f"wrote {self.cameras}")
        return 0
