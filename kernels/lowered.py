"""What a field hands to a fused kernel: plain tensors and numbers, no modules.

A :class:`Lowered` field is the contract between ``representations/`` (which
produces it from a field's own parameters, without copying) and ``kernels/``
(which may evaluate, march and composite it in one call).  The tensors *are* the
field's parameters, so a fused operation can return gradients for them.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

DENSE, HASHED, TILED = 0, 1, 2
"""How a grid level finds the table row of a vertex: direct index, spatial hash, or index modulo the level's rows."""

HANDOVER = 16
"""Width of PVD's hand-over between block 1 and block 2: one raw log density and 15 appearance features."""


@dataclass(frozen=True)
class GridLayout:
    """Rows of a multi-resolution table (Instant-NGP, section 3); level l owns rows offsets[l]:offsets[l+1].

    A level of resolution r has (r + 1)^3 vertices at unit coordinates i / r.
    Vertex (i, j, k) is row ``i + (r+1) * (j + (r+1) * k)`` of a dense level, that
    number modulo the level's rows of a tiled one, and
    ``(i * 1 ^ j * 2654435761 ^ k * 805459861) mod 2^32 mod rows`` of a hashed one
    (its row count is a power of two).
    """

    resolutions: tuple[int, ...]
    offsets: tuple[int, ...]
    kinds: tuple[int, ...]
    features: int

    @property
    def width(self) -> int:
        return len(self.resolutions) * self.features


@dataclass(frozen=True)
class GridEncoding:
    """Multi-resolution grid; encodes to ``layout.width`` numbers, level-major."""

    table: Tensor  # [rows, F]
    layout: GridLayout


@dataclass(frozen=True)
class VMEncoding:
    """TensoRF's vector-matrix sum. Mode m pairs the plane over axes (0,1), (0,2), (1,2) with the line over axis 2, 1, 0.

    Channel-last: a plane over axes (a, b) is [R_b, R_a, C] and a line over axis c is
    [R_c, C], sampled (bi)linearly with vertices at both ends of the unit interval.
    The hand-over is s = shift + sum of all density products, features = basis @ colour products (mode-major). Where the
    field has a density head, s = shift + that network's one output, read from the density products [3 * C_density].
    """

    density_planes: tuple[Tensor, Tensor, Tensor]
    density_lines: tuple[Tensor, Tensor, Tensor]
    color_planes: tuple[Tensor, Tensor, Tensor]
    color_lines: tuple[Tensor, Tensor, Tensor]
    basis: Tensor  # [15, 3 * C_color]
    shift: float = 0.0


@dataclass(frozen=True)
class CPEncoding:
    """TensoRF's CP sum: products of three lines, each [R_axis, C]. Hand-over as for VM, basis [15, C_color]."""

    density_lines: tuple[Tensor, Tensor, Tensor]
    color_lines: tuple[Tensor, Tensor, Tensor]
    basis: Tensor  # [15, C_color]
    shift: float = 0.0


@dataclass(frozen=True)
class VoxelEncoding:
    """Trilinear grid of raw log density and spherical-harmonic coefficients (Plenoxels).

    ``links`` [X, Y, Z] int32 holds the row of each vertex, or -1 for a pruned one,
    which counts as log density ``empty`` and zero coefficients; where all eight
    vertices around a position are pruned, the gate is 0.
    Vertices lie at both ends of the unit interval.
    ``sh`` rows are channel-major: all coefficients of red, then green, then blue.
    """

    links: Tensor  # [X, Y, Z] int32
    density: Tensor  # [rows]
    sh: Tensor  # [rows, 3 * B]
    empty: float


@dataclass(frozen=True)
class HybridEncoding:
    """Branches whose hand-over numbers are summed before block 2; each branch carries its own density head."""

    branches: tuple[tuple[GridEncoding | VMEncoding | CPEncoding, tuple[Tensor, ...]], ...]


Affine = tuple[float, ...]
"""A 3x4 matrix, row by row: x -> A x + b."""

BOX, SPHERE = 0, 1


@dataclass(frozen=True)
class RegionTest:
    """Whether ``matrix`` (an affine map of world positions) takes a position into the cube [-1, 1]^3 or the unit ball."""

    shape: int  # BOX or SPHERE
    matrix: Affine


@dataclass(frozen=True)
class Layer:
    """One source field as it appears in an edited scene: somewhere, perhaps elsewhere, turned, scaled, recoloured."""

    source: int
    matrix: Affine
    """World position in the scene -> world position in the source; a rotation times a uniform scale, and a shift."""
    factor: float
    """What a source's density (per its own normalised length) is multiplied by to be per the scene's."""
    conditions: tuple[tuple[RegionTest, bool], ...] = ()
    """All must hold where the layer is seen: the position in the scene is inside (True) or outside (False) the region."""
    tints: tuple[tuple[RegionTest, Affine], ...] = ()
    """In order, inside a region: colour -> clamp(affine map of it)."""


@dataclass(frozen=True)
class LayeredEncoding:
    """An edited scene: layers whose densities add, seen in the colour of their mean weighted by density.

    ``sources`` are fields with their occupancy bits [X, Y, Z] (over their own unit coordinates): a source is empty where
    its bits say so, as it is when rendered alone.  The hand-over's features are the positions themselves.
    """

    sources: tuple[tuple[Lowered, Tensor], ...]
    layers: tuple[Layer, ...]


EMPTY = -30.0
"""The raw log density of an edited scene where nothing is."""


@dataclass(frozen=True)
class Lowered:
    """One field as plain tensors.

    ``density_head``: weights [out, in] of a bias-free ReLU MLP from the encoding to
    the 16 hand-over numbers (of a ``VMEncoding``: from its density products to the raw log
    density alone); empty where the encoding produces them itself.
    ``color_head``: weights of the bias-free ReLU MLP on (16 direction values, 15
    features) with a final sigmoid, [64, 31], [64, 64], [3, 64]; empty for ``VoxelEncoding``,
    whose colour is sigmoid(SH coefficients . basis(direction)).
    """

    lower: tuple[float, float, float]
    upper: tuple[float, float, float]
    unbounded: bool
    encoding: GridEncoding | VMEncoding | CPEncoding | VoxelEncoding | HybridEncoding | LayeredEncoding
    density_head: tuple[Tensor, ...]
    color_head: tuple[Tensor, ...]
    saliency: Tensor | None = None
    """[S, S, S] trainable logits of a gate on a grid's features (HollowNeRF; see :mod:`.reference_saliency`), or None."""
