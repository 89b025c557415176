"""Region edits from the window: applied to a view of the field, undone, redone; parameters stay as they are. No GUI."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import UserError
from ..render.types import Box
from ..representations.edited import EditedField, with_edits
from ..representations.edits import Edit, Region, describe
from ..representations.field import Field
from .entries import Entry


def box_region(box: Box) -> Region:
    return Region("box", (*box[0], *box[1]))


def edits_of(field: Field) -> tuple[Edit, ...]:
    return field.edits if isinstance(field, EditedField) else ()


class Editing:
    """The edits of one entry, and those taken back."""

    def __init__(self) -> None:
        self._undone: dict[int, list[Edit]] = {}

    def listed(self, entry: Entry) -> list[str]:
        """The entry's edits as commands, which ``fieldmorph edit`` reads."""
        return [describe(edit) for edit in edits_of(entry.field)]

    def apply(self, entry: Entry, edit: Edit) -> None:
        """Add an edit.

        Raises:
            UserError: it does not fit the field.
        """
        self._set(entry, [*edits_of(entry.field), edit])
        self._undone[id(entry)] = []

    def undo(self, entry: Entry) -> None:
        """Take back the last edit.

        Raises:
            UserError: there is none.
        """
        edits = list(edits_of(entry.field))
        if not edits:
            raise UserError("there is no edit to take back")
        taken = edits.pop()
        self._set(entry, edits)
        self._undone.setdefault(id(entry), []).append(taken)

    def redo(self, entry: Entry) -> None:
        """Bring back what was taken back last.

        Raises:
            UserError: there is nothing.
        """
        undone = self._undone.get(id(entry), [])
        if not undone:
            raise UserError("there is no edit to bring back")
        edit = undone.pop()
        self._set(entry, [*edits_of(entry.field), edit])

    def _set(self, entry: Entry, edits: Sequence[Edit]) -> None:
        field = entry.field
        inserted = field.sources[1:] if isinstance(field, EditedField) else []
        entry.field = with_edits(field, list(edits), inserted)
        entry.preview, entry.preview_psnr, entry.unsaved = None, None, True
