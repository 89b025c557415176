"""``fieldmorph data make`` and ``fieldmorph data info``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from .. import progress
from .info import lines
from .options import Talk, claim_folder, describe_scene, open_scene, start_folder, value

SCENE_FILES = ("train", "val", "test", "transforms_*.json", "scene.json")
"""What a made scene consists of, and --overwrite removes."""


@dataclass(frozen=True, kw_only=True)
class DataMake(Talk):
    """Ray-trace the project's own scene: a dataset with exact cameras to train on.

    Writes the layout of NeRF-Synthetic: train/, val/ and test/ with RGBA pictures, and transforms_*.json.
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
    overwrite: bool = False
    """Replace the scene that FOLDER holds."""

    def run(self) -> int:
        self.talk()
        claim_folder(self.out, overwrite=self.overwrite)
        start_folder(self.out, SCENE_FILES if self.overwrite else ())
        write_scene(self.out, size=self.size, train=self.train, val=self.val, test=self.test, seed=self.seed)
        return 0


def write_scene(out: Path, *, size: int, train: int, val: int, test: int, seed: int = 0) -> None:
    """Make the scene with a progress bar."""
    from ..datasets import make_scene

    with progress.Bar("making the scene", train + val + test, "pictures") as bar:
        make_scene(out, size=size, train=train, val=val, test=test, seed=seed, progress=lambda done, total: bar.update(done))
    progress.say(f"wrote {out}: {train} train, {val} val, {test} test pictures of {size}x{size}")


@dataclass(frozen=True, kw_only=True)
class DataInfo(Talk):
    """Describe a dataset: pictures, cameras, box, and what is odd about it."""

    data: Annotated[Positional[Path], value("DATA")]
    """Folder of a dataset, or its transforms.json."""
    json: bool = False
    """Print JSON."""

    def run(self) -> int:
        self.talk(messages_to_stderr=self.json)
        from ..datasets import summary

        scene = open_scene(self.data)
        facts = summary(scene)
        if self.json:
            print(json.dumps(facts, indent=2))
        else:
            progress.say(f"{self.data}: {describe_scene(scene)}")
            for line in lines(facts):
                progress.say(line)
        return 0
