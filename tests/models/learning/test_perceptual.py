"""VGG-19 in torchvision's layout, against a network put together from its description; and the substitute."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from models.learning.losses import perceptual_loss
from models.learning.perceptual import COMPONENT_LEVELS, GradientPyramid, Vgg19, load_vgg19

DESCRIPTION = (64, 64, "M", 128, 128, "M", *[256] * 4, "M", *[512] * 4, "M", *[512] * 4, "M")
"""Configuration E of the paper, which torchvision calls vgg19."""
READ = (1, 6, 11, 20, 29)
"""Behind these modules: the first ReLU of each of five groups."""


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(0)
    modules, channels = [], 3
    for width in DESCRIPTION:
        if width == "M":
            modules.append(nn.MaxPool2d(2))
        else:
            modules += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
    return nn.Sequential(*modules).requires_grad_(False)


@pytest.fixture(scope="module")
def state(reference):
    found = {f"features.{name}": tensor for name, tensor in reference.state_dict().items()}
    return found | {"classifier.0.weight": torch.zeros(2, 2), "classifier.0.bias": torch.zeros(2)}


@pytest.fixture(scope="module")
def vgg(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(state, path)
    return load_vgg19(path)


def levels(reference, image):
    """Five maps of one picture, from the description alone."""
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    x = ((image * 0.5 + 0.5) - mean[:, None, None]) / deviation[:, None, None]
    found = []
    for number, module in enumerate(reference[: READ[-1] + 1]):
        x = module(x)
        if number in READ:
            found.append(x)
    return found


def test_vgg_agrees_with_a_network_made_from_its_description(vgg, reference):
    image = torch.rand(1, 3, 128, 128) * 2 - 1
    found = vgg.features(image)
    expected = []
    for scale in (1, 2, 4, 8):
        side = 128 // scale
        expected += levels(reference, image.reshape(1, 3, side, scale, side, scale).mean((3, 5)))
    assert len(found) == len(expected) == 20
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_small_image_has_fewer_scales(vgg):
    assert [one.shape[-1] for one in vgg.features(torch.zeros(1, 3, 64, 64))[:COMPONENT_LEVELS]] == [64, 32, 16, 8]
    assert len(vgg.features(torch.zeros(1, 3, 64, 64))) == 15
    assert len(vgg.features(torch.zeros(1, 3, 16, 16))) == 5
    with pytest.raises(ValueError, match=r"S 16 or more, got \(1, 3, 8, 8\)"):
        vgg.features(torch.zeros(1, 3, 8, 8))


def test_safetensors_load_too(state, vgg, tmp_path):
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, tmp_path / "vgg19.safetensors")
    other = load_vgg19(tmp_path / "vgg19.safetensors")
    for one, two in zip(vgg.parameters(), other.parameters(), strict=True):
        assert torch.equal(one, two)


def test_gradients_reach_the_image_and_no_weight(vgg):
    image = torch.zeros(1, 3, 16, 16, requires_grad=True)
    loss = perceptual_loss(vgg.features(image), vgg.features(torch.rand(1, 3, 16, 16)))
    loss.sum().backward()
    assert image.grad.abs().max() > 0
    assert not any(parameter.requires_grad for parameter in vgg.parameters())
    assert perceptual_loss(vgg.features(image), vgg.features(image)).item() == 0


def test_a_file_of_another_network_is_refused_with_what_is_wrong(state, tmp_path):
    torch.save(state | {"features.10.weight": torch.zeros(256, 128, 1, 1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"features.10.weight has shape \(256, 128, 1, 1\), not \(256, 128, 3, 3\)"):
        load_vgg19(tmp_path / "other.pth")
    torch.save({name: tensor for name, tensor in state.items() if name != "features.28.bias"}, tmp_path / "short.pth")
    with pytest.raises(ValueError, match=r"torchvision's layout \(vgg19\): features.28.bias is missing"):
        load_vgg19(tmp_path / "short.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="torchvision's layout"):
        load_vgg19(tmp_path / "list.pth")


@pytest.mark.parametrize("name", ["page.pth", "page.safetensors"])
def test_a_file_that_holds_no_weights_is_refused(name, tmp_path):
    (tmp_path / name).write_text("<html>404</html>")
    with pytest.raises(ValueError, match=f"{name} cannot be read as weights"):
        load_vgg19(tmp_path / name)
    with pytest.raises(ValueError, match=f"missing-{name} cannot be read as weights"):
        load_vgg19(tmp_path / f"missing-{name}")


def test_the_substitute_has_colours_and_differences_at_four_sizes():
    ramp = torch.arange(32.0).expand(1, 3, 32, 32)  # one more in each column
    found = GradientPyramid().features(ramp)
    assert [tuple(one.shape) for one in found] == [(1, 9, n, n) for n in (32, 16, 8, 4)]
    for level, one in enumerate(found):
        step = 2**level
        columns = torch.arange(32 // step) * step + (step - 1) / 2  # mean of the columns in a cell
        torch.testing.assert_close(one[0, :3], columns.expand(3, 32 // step, 32 // step))
        assert (one[0, 3:6, :, :-1] == step).all()
        assert (one[0, 3:6, :, -1] == 0).all()
        assert (one[0, 6:] == 0).all()


def test_the_substitute_and_vgg_have_the_same_call():
    image = torch.rand(1, 3, 64, 64)
    for network in (Vgg19(), GradientPyramid()):
        assert [one.shape[-1] for one in network.features(image)[:COMPONENT_LEVELS]] == [64, 32, 16, 8]
        assert not any(parameter.requires_grad for parameter in network.parameters())
