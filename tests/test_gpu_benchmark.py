"""The breakdown of a frame by phase, and the emulator of NGPC."""

from __future__ import annotations

import math

import pytest
import torch

from fieldmorph.benchmarks import gpu
from fieldmorph.benchmarks.ngpc import FUSION, PAPER, PAPER_SHARES, SCALES, SECOND_HAND, Accelerator, Frame, emulate
from fieldmorph.errors import UserError

MEAN = Frame(PAPER_SHARES["encode"], PAPER_SHARES["mlp"], PAPER_SHARES["rest"])


def test_the_papers_mean_frame_gives_about_the_papers_speedups() -> None:
    """Exactly at N = 8, where the model is calibrated; elsewhere within a quarter, as the paper's means are of ratios per application."""
    assert MEAN.total == pytest.approx(1.0)
    assert emulate(MEAN, Accelerator(8)).pipelined == pytest.approx(PAPER["hashgrid"][8])
    for n in SCALES:
        found = emulate(MEAN, Accelerator(n))
        assert found.serial < found.pipelined <= found.bound
        assert 0.8 < found.pipelined / PAPER["hashgrid"][n] < 1.25, n
    assert emulate(MEAN, Accelerator(64)).limit == "rest", "the plateau"


def test_second_hand_factors_do_not_fit_the_papers_figures() -> None:
    told = Accelerator(8, encode_factor=SECOND_HAND["encode"], mlp_factor=SECOND_HAND["mlp"])
    found = emulate(MEAN, told)
    assert found.limit == "rest" and found.pipelined == pytest.approx(36.0, abs=0.1)


def test_without_fusing_the_rest_no_number_of_processors_helps() -> None:
    """Amdahl: 27.6 % of the time is the rest."""
    found = emulate(MEAN, Accelerator(10**6, fusion=1.0))
    assert found.pipelined == pytest.approx(1.0 / PAPER_SHARES["rest"])
    assert emulate(MEAN, Accelerator(10**6)).bound == pytest.approx(FUSION / PAPER_SHARES["rest"])


def test_tables_that_do_not_fit_are_refilled() -> None:
    """The criticism: a level of 2^19 rows of two half-precision numbers takes 2 MB, an engine keeps 1 MB."""
    small = Frame(0.010, 0.008, 0.0001, reads=1e9, level_bytes=1 << 19)
    large = Frame(0.010, 0.008, 0.0001, reads=1e9, level_bytes=1 << 21)
    accelerator = Accelerator(64, encode_factor=SECOND_HAND["encode"], mlp_factor=SECOND_HAND["mlp"])
    assert emulate(small, accelerator).limit != "refill"
    refilled = emulate(large, accelerator)
    assert refilled.limit == "refill"
    assert refilled.pipelined == pytest.approx(0.0181 / (0.5 * 1e9 * 32 / 936e9 + 0.008 / 1232), rel=1e-6)


def test_overhead_and_nonsense() -> None:
    plain, slowed = emulate(MEAN, Accelerator(64)), emulate(MEAN, Accelerator(64, overhead=0.1))
    assert 1.0 / slowed.serial == pytest.approx(1.0 / plain.serial + 0.1)
    assert math.isinf(emulate(Frame(1.0, 1.0, 0.0), Accelerator(8)).bound)
    with pytest.raises(ValueError, match="takes time"):
        emulate(Frame(-1.0, 1.0, 1.0), Accelerator(8))


def test_a_frame_is_measured_by_phase_and_in_one_call() -> None:
    found = gpu.measure_frame(torch.device("cpu"), 24, 16, 1)
    assert set(found["phases"]) == set(gpu.PHASES) and min(found["phases"].values()) >= 0.0
    assert found["unfused"] == pytest.approx(sum(found["phases"].values()))
    assert found["samples_per_ray"] * 24 * 16 == pytest.approx(found["samples"])
    assert found["device"] == "cpu" and found["kernels"] in ("cpu", "reference")
    assert 0.0 < found["field_share"] < 1.0
    assert set(found["modelled"]) == set(found["paper"]) == {str(n) for n in SCALES}
    assert len(gpu.table([found])[0]) == len(gpu.PHASES) + 4


def test_both_ways_show_the_same_picture() -> None:
    from fieldmorph import kernels
    from fieldmorph.benchmarks.operations import STEPS, lowered_field, shell

    device, ops = torch.device("cpu"), kernels.ops("cpu")
    edges = torch.linspace(0.0, 2.0 * math.sqrt(3.0), STEPS + 1)
    lowered = lowered_field("hashgrid")
    assert lowered is not None
    _, _, picture = gpu.unfused(ops, lowered, shell(), gpu.camera(20, 12), edges, device)
    once = gpu.fused(ops, lowered, shell(), gpu.camera(20, 12), edges, device)()
    assert (picture - once).square().mean() < 1e-5


def test_sizes() -> None:
    assert gpu.parse_sizes(("4k", "64x48")) == [(3840, 2160), (64, 48)]
    with pytest.raises(UserError, match="1080p, 4k, 8k"):
        gpu.parse_sizes(("5k",))
