"""The analytic emulator of NGPC, the accelerator of "Hardware Acceleration of Neural Graphics" (Mubarik et al., ISCA 2023).

NGPC-N is N fused processors behind the GPU's second-level cache: each has an engine per encoding level with its own
memory, and a matrix engine for the networks.  What is left, the rest (marching, compositing, pre- and post-processing),
stays on the GPU, fused into one kernel, and works on one batch while the processors work on the next.

The emulator takes measured seconds of a frame and says what the paper's model makes of them.  What the paper reports end
to end is kept apart in :data:`PAPER`.  The factor of one processor is set so that the paper's mean frame comes out at the
paper's N = 8; the model then says 25.9x, 36.0x and 36.0x at 16, 32 and 64 where the paper has 20.9x, 33.7x and 39.0x.  The
engines' own speed-ups at N = 64 as they are told second-hand (:data:`SECOND_HAND`) do not fit the paper's other figures:
divided by 64 they make a frame wait for the rest at 8 processors already, 36x instead of 12.9x.
"""

from __future__ import annotations

from dataclasses import dataclass

FUSION = 9.94
"""How much faster the rest is as one kernel (the paper's abstract)."""
SCALES = (8, 16, 32, 64)
PAPER = {
    "hashgrid": {8: 12.94, 16: 20.85, 32: 33.73, 64: 39.04},
    "multi-resolution dense": {8: 9.05, 16: 14.22, 32: 22.57, 64: 26.22},
    "low-resolution dense": {8: 9.37, 16: 14.66, 32: 22.97, 64: 26.4},
}
"""End-to-end speed-ups the paper reports, means over its four applications (the hash grid's rounded ones are in its abstract)."""
PAPER_SHARES = {"encode": 0.4024, "mlp": 0.3212, "rest": 0.2764}
"""Shares of a frame's time on an RTX 3090, hash grid, mean over the applications."""
SECOND_HAND = {"encode": 246.0 / 64.0, "mlp": 1232.0 / 64.0}
"""Speed-up of one processor's engines, from what is told of 64."""
CALIBRATED = (PAPER_SHARES["encode"] + PAPER_SHARES["mlp"] * SECOND_HAND["encode"] / SECOND_HAND["mlp"]) * PAPER["hashgrid"][8] / 8.0
"""Speed-up of encoding by one processor at which the model agrees with the paper at N = 8, with the engines' ratio as told."""
SECTOR = 32
"""Bytes a GPU reads at least from memory."""


@dataclass(frozen=True)
class Frame:
    """Seconds of one frame by phase, and what its encoding reads."""

    encode: float
    mlp: float
    rest: float
    reads: float = 0.0
    """Table rows read: samples x levels x 8."""
    level_bytes: float = 0.0
    """Size of one level's table."""

    @property
    def total(self) -> float:
        return self.encode + self.mlp + self.rest


@dataclass(frozen=True)
class Accelerator:
    """NGPC-N."""

    processors: int
    encode_factor: float = CALIBRATED
    """Speed-up of encoding by one processor."""
    mlp_factor: float = CALIBRATED * SECOND_HAND["mlp"] / SECOND_HAND["encode"]
    """Speed-up of the networks by one processor."""
    fusion: float = FUSION
    overhead: float = 0.0
    """Seconds a frame to hand batches over."""
    memory: float = float(1 << 20)
    """Bytes each encoding engine keeps of its level."""
    bandwidth: float = 936e9
    """Bytes per second from the GPU's memory, for rows that are not kept."""


@dataclass(frozen=True)
class Emulated:
    """Speed-ups of a whole frame."""

    pipelined: float
    """The GPU works on the rest of one batch while the processors have the next."""
    serial: float
    """One after the other (Amdahl's law)."""
    bound: float
    """With infinitely many processors."""
    limit: str
    """What takes longest when pipelined: "rest", "encode", "mlp" or "refill"."""


def emulate(frame: Frame, accelerator: Accelerator) -> Emulated:
    """What the model makes of a frame.

    Tables larger than an engine's memory are read from the GPU's for the part that does not fit; the paper leaves
    this out (``reads`` 0 does the same).
    """
    if min(frame.encode, frame.mlp, frame.rest) < 0.0 or frame.total <= 0.0:
        raise ValueError("a frame takes time, and no phase a negative one")
    missing = max(0.0, 1.0 - accelerator.memory / frame.level_bytes) if frame.level_bytes else 0.0
    refill = frame.reads * missing * SECTOR / accelerator.bandwidth
    compute = frame.encode / (accelerator.encode_factor * accelerator.processors)
    encode = max(compute, refill)
    mlp = frame.mlp / (accelerator.mlp_factor * accelerator.processors)
    rest = frame.rest / accelerator.fusion
    on_processors = encode + mlp + accelerator.overhead
    if rest >= on_processors:
        limit = "rest"
    else:
        limit = "refill" if refill > max(compute, mlp) else "encode" if encode >= mlp else "mlp"
    return Emulated(
        frame.total / max(rest, on_processors),
        frame.total / (rest + on_processors),
        frame.total / rest if rest else float("inf"),
        limit,
    )
