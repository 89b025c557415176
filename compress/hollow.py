"""HollowNeRF's pruning as part of the ordinary training loop: a saliency grid made sparse, then closed for good."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import UserError
from ..kernels.reference_saliency import CLOSED
from ..representations.field import Field
from ..representations.hashgrid import HashGridField
from ..representations.packing import reached
from ..representations.saliency import grids_of, mask_of, open_cells, open_vertices
from .admm import Admm, Penalty

if TYPE_CHECKING:
    from ..training.trainer import Trainer

INTERVAL = 16
"""Optimiser steps between updates of the auxiliary and dual variables."""
HARDEN = 0.75
"""Share of a run after which the decision is made; the rest of it trains what is left."""
OPEN = math.log(0.99 / 0.01)
"""Logit of a vertex that is open as far as anybody knows: an existing field's saliency grid starts from it."""


def saliency_of(field: Field) -> Tensor:
    """The field's saliency logits [S, S, S]: a parameter, or after the decision ``OPEN`` and ``CLOSED`` as its mask says.

    Raises:
        UserError: it has none.
    """
    logits, mask = grids_of(field)
    if mask is not None:
        return torch.where(mask, OPEN, CLOSED)
    if logits is None:
        raise UserError(f"this {field.family} field has no saliency grid to prune; train a hashgrid with --set saliency=64")
    return logits


def decided(field: Field) -> bool:
    """Whether pruning has made its decision about this field."""
    return grids_of(field)[1] is not None


class HollowPruner:
    """Watches a run: adds ADMM's term to the loss, updates its variables, and in the end shuts what is not salient.

    Args:
        target: greatest share of the saliency grid's vertices that may stay open.
    """

    def __init__(self, target: float = 0.1, penalty: Penalty | None = None) -> None:
        if not 0.0 < target < 1.0:
            raise UserError(f"--keep {target}: give the share of space that may stay, between 0 and 1")
        self.target, self.penalty = target, penalty or Penalty()
        self.admm: Admm | None = None
        self._untouched: Tensor | None = None

    def _admm(self, logits: Tensor) -> Admm:
        if self.admm is None:
            self.admm = Admm(logits.detach(), self.target, self.penalty)
        return self.admm

    def term(self, field: Field) -> Tensor | None:
        """What this step's loss gains, or None."""
        if decided(field):
            return None
        logits = saliency_of(field)
        return self._admm(logits).term(torch.sigmoid(logits))

    @torch.no_grad()
    def stepped(self, trainer: Trainer) -> None:
        """After every optimiser step."""
        field, progress = trainer.field, trainer.budget.progress
        if decided(field):
            return
        logits = saliency_of(field)
        if progress < self.penalty.begin:
            # While all of space is still fog, every gradient closes the gate, where it should teach the features.
            self._untouched = logits.detach().clone() if self._untouched is None else self._untouched
            logits.copy_(self._untouched)
        elif progress >= HARDEN:
            self.harden(field)
            trainer.optimizer.rebuild(field)
        elif trainer.budget.step % INTERVAL == 0:
            self._admm(logits).update(torch.sigmoid(logits), progress)

    @torch.no_grad()
    def harden(self, field: Field) -> None:
        """Shut every vertex but the most salient ``target`` of those at occupied cells, and rule what they leave out of the occupancy.

        The field keeps which vertices are open, and no gate: rays are not led to what is shut, and where space is open the gate
        has nothing left to say, but would be asked at every sample.
        """
        logits = saliency_of(field)
        admm = self._admm(logits)
        score = torch.sigmoid(logits) + admm.dual
        matter = reached(field.occupancy.bits.cpu().numpy(), *(n - 1 for n in logits.shape))
        known = torch.from_numpy(matter).to(logits.device)
        wanted = (open_vertices(logits) & known, known, torch.ones_like(known))
        able = next(choice for choice in wanted if choice.any())  # a run too short to have found anything keeps something
        chosen = torch.where(able, score, -torch.inf).flatten().topk(max(1, int(self.target * logits.numel()))).indices
        keep = torch.zeros_like(able).flatten()
        keep[chosen] = True
        mask = keep.view_as(able) & able
        assert isinstance(field, HashGridField)
        field.encoder.decide(mask)
        field.occupancy.restrict(mask_of(mask, field.occupancy.resolution))
        self.admm = None

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint. After the decision there is none: the field says that it was made."""
        if self.admm is None:
            return {}
        return {"auxiliary": self.admm.auxiliary, "dual": self.admm.dual, "rho": torch.tensor(self.admm.rho, dtype=torch.float64)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Inverse of :meth:`state`."""
        if "dual" in state:
            self.admm = Admm(state["dual"], self.target, self.penalty)
            self.admm.auxiliary, self.admm.dual, self.admm.rho = state["auxiliary"], state["dual"], float(state["rho"])

    def report(self, field: Field) -> dict[str, Any]:
        """Shares of vertices and cells that are open."""
        logits = saliency_of(field).detach()
        return {"vertices": float(open_vertices(logits).float().mean()), "cells": float(open_cells(logits).float().mean())}
