"""The density and the colour network as blocks that kernels call, and what a launch must know of them.

Two bias-free ReLU networks, as every family with PVD's hand-over has them: encoding -> hidden -> 16 numbers, and
(16 direction values, 15 features) -> hidden -> hidden -> 3.  Widths are padded to powers of two of at least 16.
"""

from __future__ import annotations

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from ..lowered import HANDOVER
from .maths import add_weight, product, scaled, sigmoid, weight
from .runtime import power

WIDEST = 128
"""Hidden numbers, at most: weight gradients of a wider network do not fit the registers of a program."""


@triton.jit
def density_block(x, d0, d1, HALF: tl.constexpr):
    """x [B, WP] -> hidden [B, HD] and the 16 numbers [B, 16]."""
    hidden = tl.maximum(product(x, tl.trans(d0), HALF), 0.0)
    return hidden, product(hidden, tl.trans(d1), HALF)


@triton.jit
def features_of(numbers):
    """The hand-over without its first number, which colour does not read."""
    return tl.where(tl.arange(0, 16)[None, :] == 0, 0.0, numbers)


@triton.jit
def first_of(numbers):
    """The first of the hand-over's numbers, [B]."""
    return tl.sum(tl.where(tl.arange(0, 16)[None, :] == 0, numbers, 0.0), 1)


@triton.jit
def color_block(numbers, sh, c0s, c0f, c1, c2, HALF: tl.constexpr):
    """Hand-over [B, 16] and directions [B, 16] -> both hidden layers [B, HC] and colour [B, 16] (three of them count)."""
    a = tl.maximum(product(sh, tl.trans(c0s), HALF) + product(features_of(numbers), tl.trans(c0f), HALF), 0.0)
    b = tl.maximum(product(a, tl.trans(c1), HALF), 0.0)
    return a, b, sigmoid(product(b, tl.trans(c2), HALF))


@triton.jit
def channel(rgb, INDEX: tl.constexpr):
    """One colour channel [B] of [B, 16]."""
    return tl.sum(tl.where(tl.arange(0, 16)[None, :] == INDEX, rgb, 0.0), 1)


@triton.jit
def rounded(w, HALF: tl.constexpr):
    """A weight as the products take it; kept so while a program lives."""
    return w.to(tl.float16) if HALF else w


@triton.jit
def density_weights(d0, d1, W: tl.constexpr, WP: tl.constexpr, HD: tl.constexpr, HDP: tl.constexpr, HALF: tl.constexpr):
    return rounded(weight(d0, HD, W, HDP, WP), HALF), rounded(weight(d1, 16, HD, 16, HDP), HALF)


@triton.jit
def color_weights(
    c0, c1, c2, HC: tl.constexpr, HCP: tl.constexpr, HE: tl.constexpr, HEP: tl.constexpr, HALF: tl.constexpr
):  # fmt: skip
    """The first layer in two halves [HCP, 16], for directions and for the hand-over, and the other layers."""
    row, column = tl.arange(0, HCP)[:, None], tl.arange(0, 16)[None, :]
    for_directions = tl.load(c0 + row * 31 + column, mask=row < HC, other=0.0)
    for_features = tl.load(c0 + row * 31 + column + 15, mask=(row < HC) & (column > 0), other=0.0)
    second, third = weight(c1, HE, HC, HEP, HCP), weight(c2, 3, HE, 16, HEP)
    return rounded(for_directions, HALF), rounded(for_features, HALF), rounded(second, HALF), rounded(third, HALF)


@triton.jit
def add_color_first(pointer, for_directions, for_features, HC: tl.constexpr, HCP: tl.constexpr):
    """Adds the gradients of both halves of the colour network's first layer [HC, 31]."""
    row, column = tl.arange(0, HCP)[:, None], tl.arange(0, 16)[None, :]
    tl.atomic_add(pointer + row * 31 + column, for_directions, mask=row < HC, sem="relaxed")
    tl.atomic_add(pointer + row * 31 + column + 15, for_features, mask=(row < HC) & (column > 0), sem="relaxed")


@triton.jit
def color_backward(drgb, rgb, numbers, sh, a, b, c0f, c1, c2, HALF: tl.constexpr):
    """Gradients of the hand-over, and of the four weight blocks."""
    g, down = scaled(drgb * rgb * (1.0 - rgb), HALF)
    dc2 = product(tl.trans(g), b, HALF) * down
    db = tl.where(b > 0.0, product(g, c2, HALF) * down, 0.0)
    g, down = scaled(db, HALF)
    dc1 = product(tl.trans(g), a, HALF) * down
    da = tl.where(a > 0.0, product(g, c1, HALF) * down, 0.0)
    g, down = scaled(da, HALF)
    dc0s = product(tl.trans(g), sh, HALF) * down
    dc0f = product(tl.trans(g), features_of(numbers), HALF) * down
    return product(g, c0f, HALF) * down, dc0s, dc0f, dc1, dc2


@triton.jit
def density_backward(dnumbers, x, hidden, d0, d1, HALF: tl.constexpr):
    """Gradients of the encoding, and of both weight blocks."""
    g, down = scaled(dnumbers, HALF)
    dd1 = product(tl.trans(g), hidden, HALF) * down
    dhidden = tl.where(hidden > 0.0, product(g, d1, HALF) * down, 0.0)
    g, down = scaled(dhidden, HALF)
    dd0 = product(tl.trans(g), x, HALF) * down
    return product(g, d0, HALF) * down, dd0, dd1


def density_shape(head: tuple[Tensor, ...]) -> dict[str, int]:
    """Widths of the density network at compile time; all 16 where there is none."""
    if not head:
        return {"W": 16, "WP": 16, "HD": 16, "HDP": 16}
    hidden, width = head[0].shape
    return {"W": width, "WP": power(width, 16), "HD": hidden, "HDP": power(hidden, 16)}


def color_shape(head: tuple[Tensor, ...]) -> dict[str, int]:
    """Widths of the colour network's two hidden layers at compile time."""
    first, second = head[0].shape[0], head[1].shape[0]
    return {"HC": first, "HCP": power(first, 16), "HE": second, "HEP": power(second, 16)}


def why_not_networks(density: tuple[Tensor, ...], color: tuple[Tensor, ...]) -> str | None:
    """Why kernels cannot compute these networks, or None."""
    if density and (len(density) != 2 or density[1].shape[0] != HANDOVER):
        return "the Triton kernels know density networks of one hidden layer"
    if len(color) != 3 or color[0].shape[1] != 31 or color[2].shape[0] != 3:
        return "the Triton kernels know colour networks of two hidden layers"
    widest = max(color[0].shape[0], color[1].shape[0], *(w.shape[0] for w in density[:1]), *(w.shape[1] for w in density[:1]))
    return f"the Triton kernels know networks of at most {WIDEST} numbers a layer" if widest > WIDEST else None


__all__: list[Any] = [
    "add_color_first", "add_weight", "channel", "color_backward", "color_block", "color_shape", "color_weights", "density_backward",
    "density_block", "density_shape", "density_weights", "first_of", "why_not_networks",
]  # fmt: skip
