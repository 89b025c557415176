"""NeRF-Synthetic scenes: ``transforms_{train,val,test}.json`` beside folders of RGBA PNGs.

The files follow ``transforms.json``'s rules (:mod:`.frames`), so those with per-frame intrinsics,
lenses or D-NeRF's ``time`` work as well.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError
from .assemble import assemble
from .format import Format
from .frames import Document, read_document
from .scene import Scene
from .splits import hold_out

SPLITS = ("train", "val", "test")


def _folder(path: Path) -> Path:
    return path.parent if path.name in {f"transforms_{split}.json" for split in SPLITS} else path


def _sniff(path: Path) -> bool:
    return any((_folder(path) / f"transforms_{split}.json").is_file() for split in SPLITS)


def read_blender(path: Path, holdout: int) -> Scene:
    """Read the folder ``path`` (or the one a ``transforms_train.json`` lies in).

    Where only training views exist, every ``holdout``-th becomes a test view, with a warning.

    Raises:
        UserError: see :func:`.frames.read_document`.
    """
    folder = _folder(path)
    documents: dict[str, Document] = {}
    for split in SPLITS:
        file = folder / f"transforms_{split}.json"
        if file.is_file():
            documents[split] = read_document(file)
    if "train" not in documents:
        present = ", ".join(f"transforms_{split}.json" for split in documents)
        raise UserError(f"{folder}: there is {present} but no transforms_train.json; add the training views")
    warnings = [line for document in documents.values() for line in document.warnings]
    frames = [frame for document in documents.values() for frame in document.frames]
    indices: dict[str, list[int]] = {name: [] for name in SPLITS}
    first = 0
    for name, document in documents.items():
        indices[name] = list(range(first, first + len(document.frames)))
        first += len(document.frames)
    if list(documents) == ["train"]:
        indices = hold_out(len(frames), holdout)
        if indices["test"]:
            warnings.append(f"{folder.name}: no transforms_test.json; every {holdout}th training picture was held out for testing")
    top = {key: value for document in reversed(documents.values()) for key, value in document.top.items()}
    return assemble(folder.name, folder, FORMAT.name, frames, indices, top, str(documents["train"].path), warnings)


FORMAT = Format("blender", "a folder with transforms_train.json", _sniff, read_blender)
