"""Where the gradients of large parameters go."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .drive_back import scatter_all
from .plan import Plan, flat
from .pool import launch


def scatter(plan: Plan, unit: np.ndarray, dx: np.ndarray, order: np.ndarray, counts: np.ndarray, tables: tuple[np.ndarray, ...]) -> None:
    """Adds dx of the tiles in ``order`` to ``tables``; the same sums, in the same order, for any number of threads."""
    launch(scatter_all, plan.field, plan.shape, unit, dx, order, counts, tables, plan.parts, np.zeros(1, np.int64), most=plan.parts)


def table_gradients(
    parameters: tuple[Tensor, ...], needed: tuple[bool, ...], in_place: bool
) -> tuple[tuple[np.ndarray, ...] | None, list[Tensor | None]]:
    """Flat arrays to add table gradients to, and what backward returns for the tables.

    In place, a leaf's own ``.grad`` is added to, and nothing returned: a fresh zeroed
    gradient the size of the table would cost more than computing it.
    """
    if not any(needed[: len(parameters)]):
        return None, [None] * len(parameters)
    arrays: list[np.ndarray] = []
    returned: list[Tensor | None] = []
    for parameter in parameters:
        if in_place and parameter.is_leaf and parameter.requires_grad:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if parameter.grad.is_contiguous() and parameter.grad.dtype == torch.float32:
                arrays.append(flat(parameter.grad))
                returned.append(None)
                continue
        fresh = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
        arrays.append(flat(fresh))
        returned.append(fresh)
    return tuple(arrays), returned
