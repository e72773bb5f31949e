"""Low-rank adapters on a real transformer: at first nothing changes, little is trained, merged it is plain again."""

import copy
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from models import FLOAT
from pipeline.training.adapters import (
    AdapterError,
    adapter_state,
    add_adapters,
    has_adapters,
    load_adapter_state,
    merge_adapters,
    trainable_parameters,
)
from tests.tiny import CONFIG

RANK, ALPHA = 3, 6.0


def transformer():
    torch.manual_seed(0)
    return FLOAT(CONFIG).transformer


def velocity(module):
    generator = torch.Generator().manual_seed(1)

    def noise(*shape):
        return torch.randn(2, *shape, generator=generator)

    window, previous, latent = CONFIG.window, CONFIG.previous, CONFIG.latent_dim
    x, speech, reference, emotion = noise(window, latent), noise(window, latent), noise(latent), noise(7)
    motion, context = noise(previous, latent), noise(previous, latent)
    return module(
        x,
        torch.tensor([0.2, 0.7]),
        speech=speech,
        emotion=emotion,
        reference_motion=reference,
        previous_motion=motion,
        previous_speech=context,
    )


def trained(module, steps=3):
    """A few steps towards another field, so that the adapters are not zero."""
    optimiser = torch.optim.Adam(trainable_parameters(module).values(), lr=1e-2)
    for _ in range(steps):
        optimiser.zero_grad()
        (velocity(module) - 1).square().mean().backward()
        optimiser.step()
    return module


def test_at_first_the_output_is_what_it_was():
    module = transformer()
    before = velocity(module)
    assert add_adapters(module, RANK, ALPHA) is module
    assert torch.equal(velocity(module), before)


def test_only_adapters_are_trained_rank_times_inputs_and_outputs_of_each_layer():
    module = transformer()
    linear = [part for part in module.modules() if isinstance(part, nn.Linear)]
    frozen = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    parameters = trainable_parameters(add_adapters(module, RANK, ALPHA))
    expected = sum(RANK * (part.in_features + part.out_features) for part in linear)
    assert sum(parameter.numel() for parameter in parameters.values()) == expected
    velocity(module).square().mean().backward()
    assert {name for name, p in module.named_parameters() if p.grad is not None} == set(parameters)
    trained(module)
    for name, tensor in module.state_dict().items():
        plain = name.replace(".base_layer", "")
        if plain in frozen:
            assert torch.equal(tensor, frozen[plain])


def test_targets_choose_layers_by_the_end_of_their_name():
    module = add_adapters(transformer(), RANK, ALPHA, ["attention.qkv", "to_velocity"])
    hidden, latent = CONFIG.hidden_dim, CONFIG.latent_dim
    expected = CONFIG.blocks * RANK * (hidden + 3 * hidden) + RANK * (hidden + latent)
    assert sum(p.numel() for p in trainable_parameters(module).values()) == expected


def test_merged_it_computes_the_same_with_the_weights_it_had_before():
    module = transformer()
    names, before = {name: t.shape for name, t in module.state_dict().items()}, velocity(module)
    with_adapters = velocity(trained(add_adapters(module, RANK, ALPHA)))
    assert not torch.allclose(with_adapters, before, atol=1e-2)
    merged = merge_adapters(module)
    torch.testing.assert_close(velocity(merged), with_adapters, rtol=1e-5, atol=1e-5)
    assert {name: t.shape for name, t in merged.state_dict().items()} == names
    assert set(trainable_parameters(merged)) == {name for name, _ in merged.named_parameters()}
    assert not has_adapters(merged)
    transformer().load_state_dict(merged.state_dict())  # strict
    add_adapters(merged, RANK, ALPHA)  # and may be adapted again


def test_a_copy_is_merged_while_the_training_continues():
    module = trained(add_adapters(transformer(), RANK, ALPHA))
    merged = merge_adapters(copy.deepcopy(module))
    torch.testing.assert_close(velocity(merged), velocity(module), rtol=1e-5, atol=1e-5)
    assert has_adapters(module)


def test_adapters_are_saved_and_loaded_alone(tmp_path):
    module = trained(add_adapters(transformer(), RANK, ALPHA))
    save_file(adapter_state(module), tmp_path / "adapters.safetensors")
    parameters = sum(p.numel() for p in trainable_parameters(module).values())
    assert (tmp_path / "adapters.safetensors").stat().st_size < 4 * parameters + 10_000
    other = add_adapters(transformer(), RANK, ALPHA)
    load_adapter_state(other, load_file(tmp_path / "adapters.safetensors"))
    assert torch.equal(velocity(other), velocity(module))


def test_what_does_not_fit_is_refused_by_name():
    with pytest.raises(
        AdapterError, match=r"there is no linear layer called attention\.key; the linear layers are embed_motion"
    ):
        add_adapters(transformer(), RANK, ALPHA, ["attention.key"])
    with pytest.raises(AdapterError, match="rank must be 1 or more, got 0"):
        add_adapters(transformer(), 0, ALPHA)
    with pytest.raises(AdapterError, match="alpha must be above 0"):
        add_adapters(transformer(), RANK, 0.0)
    module = add_adapters(transformer(), RANK, ALPHA)
    with pytest.raises(AdapterError, match="merge them first"):
        add_adapters(module, RANK, ALPHA)
    with pytest.raises(AdapterError, match="another rank"):
        load_adapter_state(module, adapter_state(add_adapters(transformer(), RANK + 1, ALPHA)))
    with pytest.raises(AdapterError, match="no adapters to merge"):
        merge_adapters(transformer())


def test_without_peft_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(AdapterError, match=r"floatcast\[finetune\]"):
        add_adapters(transformer(), RANK, ALPHA)
