"""``march``, ``box_range`` and the lattice as the kernels want it, seen from torch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from .. import reference
from ..derived import Derived
from ..reference import Samples
from ..reference_march import Vec3
from .lattice import Lattice, LatticeView, box_kernel, march_count, march_fill, ray_batch, skip_grid
from .pool import launch

_skips = Derived()


def skip_of(bits: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The skip grid of occupancy bits [X, Y, Z], and the block [6] of :func:`skip_grid`."""

    def make() -> tuple[np.ndarray, np.ndarray]:
        array = np.ascontiguousarray(bits.detach().numpy())
        skip, block = np.empty(array.shape, np.uint8), np.empty(6, np.int64)
        skip_grid(array, skip, block)
        return skip, block

    found: tuple[np.ndarray, np.ndarray] = _skips.of((bits,), make)
    return found


def array32(tensor: Tensor) -> np.ndarray:
    return tensor.detach().contiguous().numpy()


def make_lattice(edges: Tensor, bits: Tensor, lower: Vec3, upper: Vec3, unbounded: bool, scale: float, termination: float) -> Lattice:
    e = array32(edges)
    box = np.array([*lower, *(b - a for a, b in zip(lower, upper, strict=True))], np.float32)
    rate = 0.0
    if not unbounded and e.shape[0] > 1:
        step = float(e[-1]) / (e.shape[0] - 1)
        if step > 0 and np.abs(e - np.arange(e.shape[0]) * step).max() < 0.25 * step:
            rate = 1.0 / step
    skip, block = skip_of(bits)
    first, last = block.astype(np.float32).reshape(2, 3)
    view = LatticeView(
        e.ctypes.data, skip.ctypes.data, e.shape[0] - 1, skip.shape, tuple(box[:3]), tuple(box[3:]), bool(unbounded), np.float32(rate),
        tuple(first), tuple(last),
    )  # fmt: skip
    return Lattice(e, skip, view, np.float32(scale), np.float32(termination))


def _float32(*tensors: Tensor) -> bool:
    return all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors)


@torch.no_grad()
def march(
    origins: Tensor,  # [R, 3]
    directions: Tensor,  # [R, 3] unit length
    near: Tensor,  # [R]
    far: Tensor,  # [R]
    jitter: Tensor,  # [R]
    edges: Tensor,  # [K + 1]
    bits: Tensor,  # [X, Y, Z] bool
    lower: Vec3,
    upper: Vec3,
    unbounded: bool,
) -> Samples:
    """The samples of each ray, packed; see :func:`reference.march`. No gradient."""
    if not _float32(origins, directions, near, far, jitter, edges):
        return reference.march(origins, directions, near, far, jitter, edges, bits, lower, upper, unbounded)
    lattice = make_lattice(edges, bits, lower, upper, unbounded, 1.0, 0.0)
    rays = ray_batch(array32(origins), array32(directions), array32(near), array32(far), array32(jitter))
    counts = np.zeros(origins.shape[0], np.int64)
    launch(march_count, lattice, rays, counts, np.zeros(1, np.int64))
    offsets = torch.zeros(origins.shape[0] + 1, dtype=torch.int64)
    offsets[1:] = torch.from_numpy(counts).cumsum(0)
    total = int(offsets[-1])
    ray, t, delta = torch.empty(total, dtype=torch.int64), torch.empty(total), torch.empty(total)
    launch(march_fill, lattice, rays, offsets.numpy(), ray.numpy(), t.numpy(), delta.numpy(), np.zeros(1, np.int64))
    return Samples(ray, t, delta, offsets)


@torch.no_grad()
def box_range(origins: Tensor, directions: Tensor, lower: Vec3, upper: Vec3) -> tuple[Tensor, Tensor]:
    """Distances (near >= 0, far) [N] at which rays enter and leave a box; see :func:`reference.box_range`."""
    if not _float32(origins, directions):
        return reference.box_range(origins, directions, lower, upper)
    near, far = torch.empty(origins.shape[0]), torch.empty(origins.shape[0])
    box = np.array([*lower, *upper], np.float32)
    box_kernel(array32(origins), array32(directions), box, near.numpy(), far.numpy())
    return near, far
