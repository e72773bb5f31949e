"""Diffusion and flow against a Gaussian whose answer is known in closed form."""

import math

import pytest
import torch

from models.diffusion import cosine_schedule, ddim, noised, sampling_steps
from models.flow import integrate
from models.sampling import check_nfe, choose_sampler, default_nfe, sample

MEAN, SPREAD = 1.5, 0.4


def noise(count=200):
    return torch.linspace(-2, 2, count, dtype=torch.float64)[:, None]


def gaussian_noise(x, step):
    """The noise that a Gaussian's x_k is expected to hold: the perfect epsilon-prediction."""
    a = cosine_schedule()[step.long()][:, None]
    return (1 - a).sqrt() * (x - a.sqrt() * MEAN) / (a * SPREAD**2 + 1 - a)


def gaussian_clean(x, step):
    a = cosine_schedule()[step.long()][:, None]
    return (x - (1 - a).sqrt() * gaussian_noise(x, step)) / a.sqrt()


def gaussian_velocity(x, t):
    """E[x1 - x0 | x_t] of the linear path from N(0,1) to N(MEAN, SPREAD^2)."""
    t = t[:, None]
    variance = (1 - t) ** 2 + (t * SPREAD) ** 2
    return MEAN + (t * SPREAD**2 - (1 - t)) / variance * (x - t * MEAN)


def test_the_schedule_falls_from_signal_to_noise_as_the_squared_cosine():
    a = cosine_schedule()
    assert len(a) == 500
    assert (a[1:] < a[:-1]).all()
    assert a[0] > 0.999
    middle = math.cos((0.5 + 0.008) / 1.008 * math.pi / 2) ** 2 / math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    assert a[249].item() == pytest.approx(middle, rel=1e-9)


def test_noised_motion_has_the_variance_that_the_schedule_says():
    generator = torch.Generator().manual_seed(0)
    x0, e = (torch.randn(1, 200_000, generator=generator) for _ in range(2))
    x = noised(3 * x0, e, torch.tensor([300]))
    a = cosine_schedule()[300].item()
    assert x.var().item() == pytest.approx(9 * a + 1 - a, rel=0.02)


@pytest.mark.parametrize(("objective", "field"), [("epsilon", gaussian_noise), ("x0", gaussian_clean)])
def test_ddim_and_euler_end_at_the_same_place_on_a_gaussian(objective, field):
    answer = MEAN + SPREAD * noise()  # the only map of ordered noise to the ordered Gaussian
    flow = integrate(gaussian_velocity, noise(), nfe=1000)
    diffusion = sample(field, noise(), objective=objective, nfe=len(sampling_steps(480)))
    assert (flow - answer).abs().max() < 0.005
    # DDIM starts from pure noise where a thousandth of the signal's power is left: 3 % of the mean.
    assert (diffusion - answer).abs().max() < 0.05 * MEAN
    assert (ddim(field, noise(), nfe=50, objective=objective) - answer).abs().max() < 0.1 * MEAN


def test_predictions_of_noise_and_of_clean_motion_are_the_same_sampler():
    one = ddim(gaussian_noise, noise(), nfe=20, objective="epsilon")
    torch.testing.assert_close(one, ddim(gaussian_clean, noise(), nfe=20, objective="x0"))


@pytest.mark.parametrize("nfe", [1, 2, 7, 50])
def test_ddim_spends_exactly_nfe_from_noise_to_the_last_step(nfe):
    steps = []
    ddim(lambda x, t: steps.append(int(t[0])) or x, noise(1), nfe=nfe, objective="x0")
    assert len(steps) == nfe
    assert steps == sorted(set(steps), reverse=True)
    assert steps[0] == 488
    assert nfe == 1 or steps[-1] == 0


def test_each_objective_has_its_samplers():
    assert choose_sampler("flow", "auto") == "euler"
    assert choose_sampler("flow", "dopri5") == "dopri5"
    assert choose_sampler("x0", "auto") == choose_sampler("epsilon", "ddim") == "ddim"
    assert (default_nfe("flow"), default_nfe("x0")) == (10, 50)
    with pytest.raises(ValueError, match="euler cannot sample a model whose objective is x0"):
        choose_sampler("x0", "euler")
    with pytest.raises(ValueError, match="ddim cannot sample a model whose objective is flow"):
        choose_sampler("flow", "ddim")
    with pytest.raises(ValueError, match="1 to 489"):
        check_nfe("ddim", 490)
    with pytest.raises(ValueError, match="multiple of 2"):
        check_nfe("heun", 3)
