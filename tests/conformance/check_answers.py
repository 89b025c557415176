"""What a field must answer, whatever its family."""

from __future__ import annotations

import torch
from conformance_settings import BOX, directions, lively, number, points

from fieldmorph.kernels import reference
from fieldmorph.representations.field import truncated_exp
from fieldmorph.representations.space import Space


def check_shapes_and_ranges(name: str) -> None:
    field, x, d = lively(name), points(37), directions(37)
    geometry = field.geometry(x)
    rgb = field.color(geometry.features, d)
    assert geometry.log_density.shape == geometry.gate.shape == (37,)
    assert geometry.features.shape[0] == 37
    assert rgb.shape == (37, 3)
    assert field.density(x).shape == (37,)
    assert {t.dtype for t in (*geometry, rgb)} == {torch.float32}
    assert bool(((geometry.gate >= 0) & (geometry.gate <= 1)).all())
    assert bool(((rgb >= 0) & (rgb <= 1)).all())
    if field.has_handover:
        assert geometry.features.shape[1] == 15, "the hand-over is PVD's 16 numbers"


def check_no_positions(name: str) -> None:
    field = lively(name)
    geometry = field.geometry(torch.zeros(0, 3))
    assert field.color(geometry.features, torch.zeros(0, 3)).shape == (0, 3)
    with torch.no_grad():
        assert field.density(torch.zeros(0, 3)).shape == (0,)


def check_positions_matter(name: str) -> None:
    field, x, d = lively(name), points(64), directions(64)
    geometry = field.geometry(x)
    assert number(geometry.log_density.std()) > 1e-4
    assert number(field.color(geometry.features, d).std(0).min()) > 1e-4


def check_directions_matter(name: str) -> None:
    field, x = lively(name), points(64)
    features = field.geometry(x).features
    difference = field.color(features, directions(64, 1)) - field.color(features, directions(64, 2))
    assert number(difference.abs().max()) > 1e-4


def check_zero_density_outside_the_box(name: str) -> None:
    field = lively(name)
    low, high = torch.tensor(BOX.lower), torch.tensor(BOX.upper)
    middle = 0.5 * (low + high)
    outside = []
    for axis in range(3):
        for corner, sign in ((low, -1.0), (high, 1.0)):
            for distance in (1e-3, 1.0, 1e6):
                position = middle.clone()
                position[axis] = corner[axis] + sign * distance
                outside.append(position)
    outside += [torch.full((3,), float("nan")), torch.tensor([float("inf"), 0.0, 0.0])]
    x = torch.stack(outside)
    with torch.enable_grad():
        assert number(field.density(x).abs().max()) == 0.0
    with torch.no_grad():  # may take another path
        assert number(field.density(x).abs().max()) == 0.0


def check_the_faces_belong_to_the_box(name: str) -> None:
    field = lively(name)
    corners = torch.tensor([[BOX.lower[0], BOX.lower[1], BOX.lower[2]], [BOX.upper[0], BOX.upper[1], BOX.upper[2]]])
    corners = torch.cat([corners, torch.tensor([[BOX.lower[0], 0.0, 0.0], [0.0, 0.0, BOX.upper[2]]])])
    # float32 rounding may put a corner itself on either side
    inside = (corners - torch.tensor([[0.0, -0.1, 0.15]])) * (1 - 1e-6) + torch.tensor([[0.0, -0.1, 0.15]])
    density = field.density(inside)
    assert bool((density > 0).all())
    assert bool(torch.isfinite(density).all())


def check_unbounded_space(name: str) -> None:
    space = Space(BOX.lower, BOX.upper, unbounded=True)
    field = lively(name, space)
    far = torch.tensor([[0.0, 0.0, 0.0], [5.0, 0.0, 0.0], [0.0, -100.0, 3.0], [1e4, 1e4, -1e4]])
    geometry = field.geometry(far)
    assert bool((geometry.gate == 1).all()), "all of space is inside"
    density = field.density(far)
    assert bool(torch.isfinite(density).all() and (density > 0).all())
    with torch.no_grad():
        assert torch.allclose(field.density(far), density, rtol=1e-3)


def check_density_is_gate_times_exp(name: str) -> None:
    field, x = lively(name), points(50)
    geometry = field.geometry(x)
    with torch.enable_grad():
        expected = geometry.gate * truncated_exp(geometry.log_density)
        assert torch.equal(field.density(x), expected)
    with torch.no_grad():  # perhaps a fused kernel: measured worst 3e-6 relative in float32
        assert torch.allclose(field.density(x), expected, rtol=1e-4, atol=1e-6)


def check_lowered_field_agrees(name: str) -> None:
    field, x, d = lively(name), points(200), directions(200)
    lowered = field.lower()
    if lowered is None:
        return
    geometry = field.geometry(x)
    answer = reference.evaluate(lowered, x, d)
    assert torch.allclose(answer.log_density, geometry.log_density, atol=1e-5)
    assert torch.equal(answer.gate, geometry.gate)
    assert torch.allclose(answer.features, geometry.features, atol=1e-5)
    assert torch.allclose(answer.rgb, field.color(geometry.features, d), atol=1e-5)
    assert torch.allclose(reference.evaluate_density(lowered, x), field.density(x), rtol=1e-4)


def check_lowered_tensors_are_the_parameters(name: str) -> None:
    """No copies: a gradient that reaches the lowered field reaches the field."""
    field = lively(name)
    lowered = field.lower()
    if lowered is None:
        return
    answer = reference.evaluate(lowered, points(50), directions(50))
    (answer.rgb.sum() + answer.log_density.sum()).backward()
    missing = [n for n, p in field.named_parameters() if p.grad is None or not bool(p.grad.abs().sum() > 0)]
    assert not missing, missing
