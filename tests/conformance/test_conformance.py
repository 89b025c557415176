"""Every family through every check: the two meet here and nowhere else."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import check_answers
import check_gradients
import check_life
import check_times
import pytest
import torch
from conformance_settings import EXPECTED_FAILURES, SMALL, VARIANTS

from fieldmorph import kernels
from fieldmorph.representations.registry import families

MODULES = (check_answers, check_gradients, check_life, check_times)
CHECKS: list[Callable[[str], None]] = [check for module in MODULES for name, check in vars(module).items() if name.startswith("check_")]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """The tensors here are tiny: waking a second thread costs more than it brings, many times more on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
@pytest.mark.parametrize("name", [*families(), *VARIANTS])
def test_conformance(name: str, check: Callable[[str], None], request: pytest.FixtureRequest) -> None:
    reason = EXPECTED_FAILURES.get(name, {}).get(check.__name__)
    if reason is not None:
        request.applymarker(pytest.mark.xfail(reason=reason, strict=True))
    kernels.set_kernels("reference")
    try:
        check(name)
    finally:
        kernels.set_kernels("auto")


@pytest.mark.parametrize("check", [check_life.check_training_lowers_the_loss, check_answers.check_density_is_gate_times_exp])
@pytest.mark.parametrize("name", [*families()])
def test_conformance_of_the_kernels_in_use(name: str, check: Callable[[str], None]) -> None:
    """The same with the implementation that would be chosen here."""
    check(name)


def test_settings_name_families() -> None:
    assert set(SMALL) <= set(families())
    assert {name.partition("-")[0] for name in (*VARIANTS, *EXPECTED_FAILURES)} <= set(families())
