"""The few operations everything is built on, in several implementations; see docs/architecture.md, "Kernels"."""

from __future__ import annotations

from .dispatch import CHOICES, chosen, explain, full_precision, gradients_in_place, make_current, ops, set_kernels

__all__ = ["CHOICES", "chosen", "explain", "full_precision", "gradients_in_place", "make_current", "ops", "set_kernels"]
