"""HollowNeRF's pruning as part of the ordinary training loop: a saliency grid made sparse, then closed for good."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..errors import UserError
from ..kernels.reference_saliency import CLOSED, CUT
from ..representations.field import Field
from ..representations.handover import HandoverField
from ..representations.packing import reached
from .admm import Admm, Penalty

if TYPE_CHECKING:
    from ..training.trainer import Trainer

INTERVAL = 16
"""Optimiser steps between updates of the auxiliary and dual variables."""
HARDEN = 0.75
"""Share of a run after which the decision is made; the rest of it trains what is left."""


def saliency_of(field: Field) -> torch.nn.Parameter:
    """The field's saliency logits [S, S, S].

    Raises:
        UserError: it has none.
    """
    logits = field.encoder.saliency_logits() if isinstance(field, HandoverField) else None
    if logits is None:
        raise UserError(f"this {field.family} field has no saliency grid to prune; train a hashgrid with --set saliency=64")
    assert isinstance(logits, torch.nn.Parameter)
    return logits


def open_vertices(logits: Tensor) -> Tensor:
    """Vertices [S, S, S] that keep the cells around them open, bool."""
    return logits > CUT


def open_cells(logits: Tensor) -> Tensor:
    """Cells [S - 1, S - 1, S - 1] with at least one open vertex, bool."""
    return torch.nn.functional.max_pool3d(open_vertices(logits)[None, None].float(), 2, stride=1)[0, 0] > 0


def mask_of(logits: Tensor, resolution: int) -> Tensor:
    """Cells of a grid over the same space that overlap an open saliency cell, bool [R, R, R]."""
    mask = open_cells(logits)
    for axis in range(3):
        cells = mask.shape[axis]
        cell = torch.arange(resolution, device=mask.device)
        first, last = cell * cells // resolution, (-(-(cell + 1) * cells // resolution) - 1).clamp(max=cells - 1)
        counts = torch.nn.functional.pad(mask.movedim(axis, 0).int().cumsum(0), (0, 0, 0, 0, 1, 0))
        mask = (counts.index_select(0, last + 1) > counts.index_select(0, first)).movedim(0, axis)
    return mask


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
        self.hardened = False

    def _admm(self, logits: Tensor) -> Admm:
        if self.admm is None:
            self.admm = Admm(logits.detach(), self.target, self.penalty)
        return self.admm

    def term(self, field: Field) -> Tensor | None:
        """What this step's loss gains, or None."""
        if self.hardened:
            return None
        logits = saliency_of(field)
        return self._admm(logits).term(torch.sigmoid(logits))

    @torch.no_grad()
    def stepped(self, trainer: Trainer) -> None:
        """After every optimiser step."""
        field, progress = trainer.field, trainer.budget.progress
        logits = saliency_of(field)
        if self.hardened:
            logits.masked_fill_(self._shut, CLOSED)
            return
        if progress < self.penalty.begin:
            # While all of space is still fog, every gradient closes the gate, where it should teach the features.
            self._untouched = logits.detach().clone() if self._untouched is None else self._untouched
            logits.copy_(self._untouched)
        elif progress >= HARDEN:
            self.harden(field)
        elif trainer.budget.step % INTERVAL == 0:
            self._admm(logits).update(torch.sigmoid(logits), progress)

    @torch.no_grad()
    def harden(self, field: Field) -> None:
        """Shut every vertex but the most salient ``target`` of those at occupied cells, and rule what they leave out of the occupancy."""
        logits = saliency_of(field)
        admm = self._admm(logits)
        score = torch.sigmoid(logits) + admm.dual
        matter = reached(field.occupancy.bits.cpu().numpy(), *(n - 1 for n in logits.shape))
        able = open_vertices(logits) & torch.from_numpy(matter).to(logits.device)
        chosen = torch.where(able, score, -torch.inf).flatten().topk(max(1, int(self.target * logits.numel()))).indices
        keep = torch.zeros_like(able).flatten()
        keep[chosen] = True
        self._close(logits, ~(keep.view_as(able) & able))
        field.occupancy.restrict(mask_of(logits, field.occupancy.resolution))
        self.hardened = True

    def _close(self, logits: Tensor, shut: Tensor) -> None:
        self._shut = shut
        logits.masked_fill_(shut, CLOSED)

    def state(self) -> dict[str, Tensor]:
        """For a checkpoint."""
        if self.hardened:
            return {"shut": self._shut}
        if self.admm is None:
            return {}
        return {"auxiliary": self.admm.auxiliary, "dual": self.admm.dual, "rho": torch.tensor(self.admm.rho, dtype=torch.float64)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Inverse of :meth:`state`."""
        self.hardened = "shut" in state
        if self.hardened:
            self._shut = state["shut"]
        elif "dual" in state:
            self.admm = Admm(state["dual"], self.target, self.penalty)
            self.admm.auxiliary, self.admm.dual, self.admm.rho = state["auxiliary"], state["dual"], float(state["rho"])

    def report(self, field: Field) -> dict[str, Any]:
        """Shares of vertices and cells that are open."""
        logits = saliency_of(field).detach()
        return {"vertices": float(open_vertices(logits).float().mean()), "cells": float(open_cells(logits).float().mean())}
