"""Solvers and guidance against answers known in closed form."""

import math

import pytest
import torch

from models.flow import NfeExhaustedError, guidance_branches, integrate


def decay(x, t):
    """dx/dt = -x: x(1) = x(0) / e."""
    return -x


def ramp(x, t):
    """dx/dt = 3 t^2: x(1) = x(0) + 1."""
    return 3 * t.view(-1, 1).square().expand_as(x)


@pytest.mark.parametrize("solver", ["euler", "midpoint", "heun", "rk4"])
def test_a_fixed_step_solver_spends_exactly_nfe(solver):
    calls = []
    integrate(lambda x, t: calls.append(1) or -x, torch.ones(1, 1), nfe=12, solver=solver)
    assert len(calls) == 12


@pytest.mark.parametrize(("solver", "order"), [("euler", 1), ("midpoint", 2), ("heun", 2), ("rk4", 4)])
def test_halving_the_step_shrinks_the_error_by_the_order_of_the_solver(solver, order):
    x = torch.ones(1, 1, dtype=torch.float64)
    errors = [abs(integrate(decay, x, nfe=n, solver=solver).item() - math.exp(-1)) for n in (16, 32)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize("solver", ["heun", "rk4", "dopri5"])
def test_time_reaches_the_field(solver):
    x = integrate(ramp, torch.zeros(2, 1, dtype=torch.float64), nfe=400, solver=solver, tolerance=1e-6)
    assert x.flatten().tolist() == pytest.approx([1.0, 1.0], abs=1e-4)


def test_one_euler_step_is_the_start_plus_the_field():
    x = torch.tensor([[2.0]])
    assert integrate(decay, x, nfe=1).item() == 0.0


def test_dopri5_is_as_exact_as_its_tolerance():
    x = torch.ones(1, 3, dtype=torch.float64)
    for tolerance in (1e-3, 1e-6, 1e-9):
        got = integrate(decay, x, nfe=2000, solver="dopri5", tolerance=tolerance)
        assert (got - math.exp(-1)).abs().max() < 10 * tolerance


def test_dopri5_gives_a_clip_what_it_gets_alone_whatever_its_neighbours_need():
    stiff = torch.tensor([[1.0], [40.0]], dtype=torch.float64)

    def field(x, t, rate=stiff):
        return -rate[: len(x)] * x

    x = torch.ones(2, 1, dtype=torch.float64)
    together = integrate(field, x, nfe=5000, solver="dopri5", tolerance=1e-6)
    alone = integrate(field, x[:1], nfe=5000, solver="dopri5", tolerance=1e-6)
    assert torch.equal(together[:1], alone)


def test_dopri5_says_when_nfe_is_used_up():
    with pytest.raises(NfeExhaustedError, match="nfe = 8"):
        integrate(lambda x, t: -100 * x, torch.ones(1, 1), nfe=8, solver="dopri5", tolerance=1e-6)


@pytest.mark.parametrize(
    ("solver", "nfe", "message"),
    [
        ("rk5", 4, "allowed: euler"),
        ("rk4", 10, "multiple of 4"),
        ("heun", 3, "multiple of 2"),
        ("euler", 0, "multiple of 1"),
        ("dopri5", 6, "at least 7"),
    ],
)
def test_an_nfe_that_a_solver_cannot_spend_is_refused(solver, nfe, message):
    with pytest.raises(ValueError, match=message):
        integrate(decay, torch.ones(1, 1), nfe=nfe, solver=solver)


@pytest.mark.parametrize(
    ("audio", "emotion", "reference", "expected"),
    [
        (1, 1, 1, [1]),  # everything conditioned, once
        (2, 1, 1, [-1, 1, 1]),  # the paper's three branches
        (2, 2, 1, [-1, 2]),
        (0, 0, 1, [1]),
        (2, 1, 0.5, [0.5, -1.5, 1, 1]),
        (0, 0, 0, [1]),
    ],
)
def test_only_branches_with_a_weight_are_evaluated(audio, emotion, reference, expected):
    scales = [torch.tensor([float(scale)]) for scale in (audio, emotion, reference)]
    branches = guidance_branches(*scales)
    assert [branch.weight.item() for branch in branches] == expected
    assert sum(branch.weight.item() for branch in branches) == 1


def test_clips_of_a_batch_keep_their_own_scales():
    branches = guidance_branches(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 1.0]), torch.tensor([1.0, 1.0]))
    assert [branch.weight.tolist() for branch in branches] == [[0, -1], [0, 1], [1, 1]]
