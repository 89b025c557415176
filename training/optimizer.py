"""Adam over a field's parameter groups, through the kernels' fused update."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .. import kernels
from ..representations.field import Field

BETAS = (0.9, 0.99)
EPS = 1e-15


class FieldAdam:
    """Adam (Kingma and Ba 2015) with Instant-NGP's settings; ``sparse`` groups leave rows without gradient untouched.

    State lives in plain tensors under the parameters' names, so that a checkpoint
    needs no pickle.  After :meth:`rebuild` (parameters were replaced), the
    moments of parameters whose shape is unchanged carry over.
    """

    def __init__(self, field: Field, rate: float) -> None:
        self.rate = rate
        self.step_count: dict[str, int] = {}
        self.first: dict[str, Tensor] = {}
        self.second: dict[str, Tensor] = {}
        self.rebuild(field)

    def rebuild(self, field: Field) -> None:
        names = {id(p): n for n, p in field.named_parameters()}
        self.groups: list[tuple[float, bool, list[tuple[str, nn.Parameter]]]] = []
        seen: set[str] = set()
        for group in field.parameter_groups():
            members = [(names[id(p)], p) for p in group["params"] if p.requires_grad]
            seen.update(name for name, _ in members)
            self.groups.append((group["lr"], group["sparse"], members))
        forgotten = {n for n, p in field.named_parameters() if p.requires_grad} - seen
        if forgotten:
            raise ValueError(f"{type(field).__name__}.parameter_groups() leaves out {sorted(forgotten)}")
        for _, _, members in self.groups:
            for name, parameter in members:
                old = self.first.get(name)
                if old is None or old.shape != parameter.shape or old.device != parameter.device:
                    self.first[name] = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
                    self.second[name] = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
                    self.step_count[name] = 0
        for name in set(self.first) - seen:
            del self.first[name], self.second[name], self.step_count[name]

    @torch.no_grad()
    def step(self, factor: float) -> None:
        """One update with every rate multiplied by ``factor``; gradients are cleared for the next step."""
        for relative, sparse, members in self.groups:
            for name, parameter in members:
                if parameter.grad is None:
                    continue
                self.step_count[name] += 1
                kernels.ops(parameter.device).adam_(
                    *(parameter, parameter.grad, self.first[name], self.second[name], self.step_count[name]),
                    *(self.rate * relative * factor, BETAS, EPS, sparse),
                    clear=True,
                )

    def next_rates(self, factor: float) -> list[tuple[float, float]]:
        """Of every parameter: this step's rate over the first bias correction, and the second's inverse. Counts the step."""
        found = []
        for relative, _, members in self.groups:
            for name, _ in members:
                self.step_count[name] += 1
                corrections = [1.0 - beta ** self.step_count[name] for beta in BETAS]
                found.append((self.rate * relative * factor / corrections[0], 1.0 / corrections[1]))
        return found

    def take_back(self) -> None:
        """The step that :meth:`next_rates` counted last was not done."""
        for name in self.step_count:
            self.step_count[name] -= 1

    @torch.no_grad()
    def static_step(self, rates: Tensor) -> None:
        """:meth:`step` with :meth:`next_rates` [P, 2] read on the device, for steps that are recorded."""
        place = 0
        for _, sparse, members in self.groups:
            for name, parameter in members:
                if parameter.grad is not None:
                    kernels.ops(parameter.device).adam_(
                        *(parameter, parameter.grad, self.first[name], self.second[name], 1, 0.0, BETAS, EPS, sparse),
                        clear=True,
                        rates=rates[place],
                    )
                place += 1

    def state(self) -> dict[str, Tensor]:
        return {
            **{f"first.{n}": t for n, t in self.first.items()},
            **{f"second.{n}": t for n, t in self.second.items()},
            **{f"count.{n}": torch.tensor(c) for n, c in self.step_count.items()},
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Raises:
        KeyError, ValueError: the state does not belong to these parameters.
        """
        for kind, mine in (("first", self.first), ("second", self.second)):
            for name, tensor in mine.items():
                saved = state[f"{kind}.{name}"]
                if saved.shape != tensor.shape:
                    raise ValueError(f"{kind}.{name} has shape {tuple(saved.shape)}, the field's is {tuple(tensor.shape)}")
                tensor.copy_(saved)
        self.step_count = {name: int(state[f"count.{name}"]) for name in self.step_count}


def gradient_norm(field: Field) -> float:
    """Euclidean norm of all gradients, for logs."""
    total: Any = sum(float(p.grad.double().pow(2).sum()) for p in field.parameters() if p.grad is not None)
    return float(total) ** 0.5
