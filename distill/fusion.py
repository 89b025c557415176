"""Fusion of features: a hybrid whose branches learn from different teachers.

All branches speak to one block 2, the main teacher's. A branch with a teacher of its own learns from that one first, alone, in
front of this block 2; then it stands still, and the other branches learn what is missing from the main teacher's features. What
they add is detail to a base that can be chosen, or edited, by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch

from ..errors import UserError
from ..representations.field import Field
from ..representations.handover import HandoverField
from ..representations.hybrid import HybridEncoder, HybridField, HybridOptions
from ..representations.options import options_from
from .inherit import inherit_weights
from .options import DistillOptions

SHARE = 0.25
"""Share of the budget that a branch with a teacher of its own gets."""


class Branch(NamedTuple):
    place: int
    kind: str
    source: Path
    """Its teacher: a field file or a run folder."""


def parse_branches(options: DistillOptions) -> list[Branch]:
    """Which branches of the student have teachers of their own, by ``options.branch``, each "KIND=FIELD".

    Raises:
        UserError: the student is no hybrid, or has no such branch left, or none would learn from the main teacher.
    """
    if not options.branch:
        return []
    if options.to != "hybrid":
        raise UserError(f"--branch is for hybrids, and the student is {options.to}; add --to hybrid")
    kinds = options_from(HybridOptions, options.family_options).branches
    free, found = list(enumerate(kinds)), []
    for text in options.branch:
        kind, equals, source = text.partition("=")
        place = next((pair for pair in free if pair[1] == kind), None)
        if not equals or not source:
            raise UserError(f"--branch {text}: write KIND=FIELD, for example vm=runs/vm")
        if place is None:
            raise UserError(f"--branch {text}: the student's branches are {', '.join(kinds)}; choose others with --set branches=…")
        free.remove(place)
        found.append(Branch(place[0], kind, Path(source)))
    if not free:
        raise UserError(
            "--branch for every branch leaves none to learn from the main teacher; give the student one more with --set branches=…"
        )
    return found


def branch_options(options: DistillOptions, branch: Branch, of_main: bool) -> DistillOptions:
    """How a branch learns alone. Hand-overs are compared only where its teacher is the main one: two teachers' mean different things."""
    return replace(
        options,
        branch=(),
        steps=None if options.steps is None else max(1, round(SHARE * options.steps)),
        seconds=None if options.seconds is None else SHARE * options.seconds,
        photographs=0.0,
        features=of_main,
        family_options={**options.family_options, "branches": (branch.kind,)},
    )


def rest_of_budget(options: DistillOptions, branches: int) -> dict[str, Any]:
    """Steps and seconds that the branches leave to the others; at least a quarter."""
    left = max(0.25, 1.0 - SHARE * branches)
    return {
        "steps": None if options.steps is None else max(1, round(left * options.steps)),
        "seconds": None if options.seconds is None else left * options.seconds,
    }


@torch.no_grad()
def with_branches(student: Field, learned: dict[int, Field]) -> Field:
    """A hybrid like ``student`` whose branches ``learned`` are those of hybrids of one branch."""
    assert isinstance(student, HybridField)
    layouts = list(student.layout()["branches"])
    for index, field in learned.items():
        layouts[index] = field.layout()["branches"][0]
    made = HybridField(student.options, student.space, {"branches": layouts}).to(student.device)
    if student.background is not None:
        made.add_background()
    inherit_weights(made, student)
    for index, field in learned.items():
        _encoder(made).encoders[index].load_state_dict(_encoder(field).encoders[0].state_dict())
    made.metadata = student.metadata
    return made


def keep_still(student: Field, indices: list[int]) -> None:
    """Branches that are not learned any more."""
    for index in indices:
        _encoder(student).encoders[index].requires_grad_(False)


def share_block_two(main: Field) -> Callable[[Field], None] | None:
    """What gives a student the main teacher's block 2 and keeps it as it is; None where the main teacher has none to share."""
    if not isinstance(main, HandoverField):
        return None

    @torch.no_grad()
    def give(student: Field) -> None:
        assert isinstance(student, HandoverField)
        theirs, mine = main.color_head.state_dict(), student.color_head.state_dict()
        if any(name not in mine or mine[name].shape != tensor.shape for name, tensor in theirs.items()):
            return
        student.color_head.load_state_dict(theirs)
        student.color_head.requires_grad_(False)

    return give


def _encoder(field: Field) -> HybridEncoder:
    assert isinstance(field, HybridField)
    return cast(HybridEncoder, field.encoder)
