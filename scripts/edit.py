"""``fieldmorph edit``: delete, keep, recolour, move, duplicate and insert regions, without touching what was trained."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from .. import progress
from ..errors import UserError
from .options import Compute, Talk, claim_file, value

if TYPE_CHECKING:
    from ..representations.edits import Edit
    from ..representations.field import Field


@dataclass(frozen=True, kw_only=True)
class EditField(Compute, Talk):
    """Edit a field: delete, keep, recolour, move or duplicate a region, insert another field.

    Each COMMAND is one edit, in quotes, added behind those the field has; without any, its edits are listed:

    "delete box -1 -1 0  1 1 0.5" · "keep sphere 0 0 0 1.2" · "recolour sphere 0 0 0.3 0.4 to #30a0ff amount 0.8" ·
    "move box 0 0 0 1 1 1 by 0.5 0 0 rotate z 45 scale 1.2" · "duplicate sphere 0 0 0 0.3 by 1 0 0" ·
    "insert other.field by 0 0 1 scale 0.5"

    The field file keeps the edits as a list; every renderer shows the edited scene.
    """

    field: Annotated[Positional[Path], value("FIELD")]
    """Run folder or field file."""
    commands: Annotated[Positional[tuple[str, ...]], arg(metavar="COMMAND")] = ()
    """Edits, each in quotes."""
    out: Annotated[Path | None, value("FILE")] = None
    """Field file to write."""
    edits: Annotated[Path | None, value("FILE")] = None
    """JSON list of edits to add before the commands, as --json prints it; "field" of an insertion is a path."""
    undo: Annotated[int, value("N")] = 0
    """First take back the last N edits."""
    clear: bool = False
    """First take back all edits."""
    bake: bool = False
    """Turn the edited scene into a voxels field without edits; any family can be baked."""
    resolution: Annotated[int, value("N")] = 160
    """With --bake: about N^3 voxels over the box."""
    json: bool = False
    """Print the edits as JSON."""
    overwrite: bool = False
    """Replace --out where it exists."""

    def run(self) -> int:
        self.talk(messages_to_stderr=self.json)
        changes = bool(self.commands or self.edits or self.undo or self.clear or self.bake)
        if changes and self.out is None:
            raise UserError("name the field file to write with --out")
        if self.out is not None:
            claim_file(self.out, overwrite=self.overwrite)
        if not 2 <= self.resolution <= 1024:
            raise UserError(f"--resolution {self.resolution}: give 2 to 1024")
        device = self.choose_device()
        from ..training import load_run_or_field

        field = load_run_or_field(self.field, device=str(device))
        if changes:
            field = self._edited(field, str(device))
        self._list(field)
        if self.out is not None:
            self._write(field)
        return 0

    def _edited(self, field: Field, device: str) -> Field:
        """The field with this call's edits."""
        from ..representations.edited import EditedField, with_edits

        edits = list(field.edits) if isinstance(field, EditedField) else []
        inserted = field.sources[1:] if isinstance(field, EditedField) else []
        if self.undo < 0 or self.undo > len(edits):
            raise UserError(f"--undo {self.undo}: {self.field} has {len(edits)} edits")
        edits = [] if self.clear else edits[: len(edits) - self.undo]
        for edit, path in self._given():
            if path is not None:
                from ..training import load_run_or_field

                edit = replace(edit, field=len(inserted))
                inserted = [*inserted, load_run_or_field(path, device=device)]
            edits.append(edit)
        used = sorted({edit.field for edit in edits if edit.kind == "insert"})
        edits = [replace(edit, field=used.index(edit.field)) if edit.kind == "insert" else edit for edit in edits]
        return with_edits(field, edits, [inserted[k] for k in used])

    def _given(self) -> list[tuple[Edit, Path | None]]:
        """This call's edits and, of insertions, the fields they name."""
        from ..representations.container import strict_json
        from ..representations.edits import edit_from_json, parse_edit

        given: list[tuple[Edit, Path | None]] = []
        if self.edits is not None:
            try:
                listed = strict_json(self.edits.read_text(), str(self.edits))
            except (OSError, ValueError) as error:
                raise UserError(f"--edits {self.edits} cannot be read: {error}") from None
            if not isinstance(listed, list):
                raise UserError(f"--edits {self.edits}: not a JSON list of edits")
            for number, item in enumerate(listed):
                path = item.get("field") if isinstance(item, dict) and item.get("do") == "insert" else None
                if path is not None and not isinstance(path, str):
                    raise UserError(f"--edits {self.edits}: edit {number}: 'field' must be the path of a field file")
                try:
                    edit = edit_from_json({k: v for k, v in item.items() if k != "field"} if path is not None else item)
                except UserError as error:
                    raise UserError(f"--edits {self.edits}: edit {number}: {error}") from None
                given.append((edit, self.edits.parent / path if path is not None else None))
        for text in self.commands:
            edit, name = parse_edit(text)
            given.append((edit, Path(name) if name is not None else None))
        return given

    def _list(self, field: Field) -> None:
        from ..representations.edited import EditedField
        from ..representations.edits import describe, edit_to_json

        edits = field.edits if isinstance(field, EditedField) else ()
        if self.json:
            print(json.dumps([edit_to_json(edit) for edit in edits], indent=2))
        elif not edits:
            progress.say("no edits")
        for number, edit in enumerate(edits, 1):
            progress.say(f"{number}: {describe(edit)}")

    def _write(self, field: Field) -> None:
        from ..representations.bake import bake
        from ..representations.field_file import save_field

        assert self.out is not None
        if self.bake:
            with progress.Bar("bake", 1.0, "of the voxels") as bar:
                field = bake(field, self.resolution, progress=lambda share: bar.update(share))
        save_field(field, self.out, precision="float16" if self.bake else precision_of(self.field))
        progress.say(f"wrote {self.out} ({progress.format_bytes(self.out.stat().st_size)})")


def precision_of(path: Path) -> Any:
    """float32 where the file keeps every bit, else float16, so that writing it again loses nothing more."""
    from ..representations.field_file import read_header

    file = path / "field.field" if path.is_dir() else path
    if not file.is_file():
        return "float32"  # a checkpoint
    return "float16" if any(entry.codec == "float16" for entry in read_header(file).tensors.values()) else "float32"
