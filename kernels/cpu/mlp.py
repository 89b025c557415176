"""Bias-free ReLU networks on tiles, of any depth and width, from one packed weight array.

Layer l is row-major ``[widths[l + 1], widths[l]]`` with zero padding up to multiples
of 16 (inputs) and 4 (last output); layers follow each other.  Hidden activations of a
tile lie one after the other in ``acts``.
"""

from __future__ import annotations

from .jit import TILE, device
from .simd import dense, dense_gate, dense_relu, outer_add, transpose


@device
def mlp_forward(w, woff, widths, x, xoff, y, yoff, acts, aoff):  # type: ignore[no-untyped-def]
    """y [widths[-1], 64] = network(x [widths[0], 64]); hidden layers are left in acts from aoff on."""
    last = widths.shape[0] - 2
    for layer in range(last):
        n_in, n_out = widths[layer], widths[layer + 1]
        if layer == 0:
            dense_relu(w, woff, n_in, 1, x, xoff, acts, aoff, acts, aoff, n_out, n_in)
        else:
            dense_relu(w, woff, n_in, 1, acts, aoff - n_in * TILE, acts, aoff, acts, aoff, n_out, n_in)
        woff += n_in * n_out
        aoff += n_out * TILE
    n_in, n_out = widths[last], widths[last + 1]
    if last == 0:
        dense(w, woff, n_in, 1, x, xoff, y, yoff, y, yoff, n_out, n_in)
    else:
        dense(w, woff, n_in, 1, acts, aoff - n_in * TILE, y, yoff, y, yoff, n_out, n_in)


@device
def mlp_backward(w, woff, widths, x, xoff, dy, dyoff, dx, dxoff, skip, acts, aoff, g, goff, work, wkoff):  # type: ignore[no-untyped-def]
    """Adds weight gradients to g and writes dx [widths[0] - skip, 64], the gradient of x without its first ``skip`` rows.

    ``acts`` is what :func:`mlp_forward` left; ``work`` needs 3 * 64 * the greatest width.
    """
    layers = widths.shape[0] - 1
    widest = widths[0]
    for layer in range(layers):
        woff += widths[layer] * widths[layer + 1]
        goff += widths[layer] * widths[layer + 1]
        if layer + 1 < layers:
            aoff += widths[layer + 1] * TILE
        if widths[layer + 1] > widest:
            widest = widths[layer + 1]
    turned, here, there = wkoff, wkoff + widest * TILE, wkoff + 2 * widest * TILE
    for back in range(layers):
        layer = layers - 1 - back
        n_in, n_out = widths[layer], widths[layer + 1]
        woff -= n_in * n_out
        goff -= n_in * n_out
        if layer > 0:
            aoff -= n_in * TILE
            transpose(acts, aoff, work, turned, n_in)
        else:
            transpose(x, xoff, work, turned, n_in)
        if back == 0:
            outer_add(dy, dyoff, work, turned, g, goff, n_out, n_in)
            if layer > 0:
                dense_gate(w, woff, 1, n_in, dy, dyoff, work, there, acts, aoff, n_in, n_out)
            else:
                dense(w, woff + skip, 1, n_in, dy, dyoff, dx, dxoff, dx, dxoff, n_in - skip, n_out)
        else:
            outer_add(work, here, work, turned, g, goff, n_out, n_in)
            if layer > 0:
                dense_gate(w, woff, 1, n_in, work, here, work, there, acts, aoff, n_in, n_out)
            else:
                dense(w, woff + skip, 1, n_in, work, here, dx, dxoff, dx, dxoff, n_in - skip, n_out)
        here, there = there, here
