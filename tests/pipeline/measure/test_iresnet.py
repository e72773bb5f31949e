"""ArcFace's network from safetensors: names, shapes and depth are those of the file, and nothing in it runs."""

import numpy as np
import pytest
import torch
from safetensors.torch import save

from pipeline.common.options import SettingError
from pipeline.evaluation.networks import Networks
from pipeline.measure.embedder import Embedder
from pipeline.measure.iresnet import IResNet, load_iresnet
from pipeline.measure.syncnet import load_syncnet
from tests.toys import exported


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return IResNet((1, 2, 1, 1)).eval()


def test_the_names_and_shapes_are_those_of_the_authors(network):
    shapes = {name: tuple(tensor.shape) for name, tensor in IResNet((3, 4, 14, 3)).state_dict().items()}
    assert shapes["conv1.weight"] == (64, 3, 3, 3)
    assert shapes["layer1.0.downsample.0.weight"] == (64, 64, 1, 1)
    assert shapes["layer3.13.conv2.weight"] == (256, 256, 3, 3)
    assert "layer3.13.downsample.0.weight" not in shapes
    assert shapes["fc.weight"] == (512, 25_088)
    assert shapes["features.running_var"] == (512,)
    weights = [n for n in shapes if not n.endswith("num_batches_tracked")]
    count = sum(int(np.prod(shapes[n])) for n in weights if "running" not in n)
    assert round(count / 1e6, 2) == 43.59  # as insightface says of iresnet50


def test_a_block_adds_what_it_computes_to_its_input(network):
    block = network.layer2[1]  # no change of size
    x = torch.randn(1, 128, 6, 6)
    with torch.no_grad():
        torch.nn.init.zeros_(block.bn3.weight)
        assert torch.equal(block(x), x)


def test_the_network_of_a_file_gives_what_was_saved(network):
    image = torch.rand(2, 3, 112, 112) * 2 - 1
    loaded = load_iresnet(save(network.state_dict()))
    with torch.no_grad():
        torch.testing.assert_close(loaded(image), network(image))
    without_counters = {n: t for n, t in network.state_dict().items() if not n.endswith("num_batches_tracked")}
    load_iresnet(save(without_counters))


def test_evaluation_takes_it_for_its_embeddings(network, tmp_path):
    (tmp_path / "net.safetensors").write_bytes(save(network.state_dict()))
    networks = Networks({"identity_model": f"{tmp_path}/net.safetensors"})
    assert networks.embed is not None
    embedding = networks.embed(np.zeros((64, 64, 3), np.uint8), np.random.default_rng(0).random((468, 3)) * 64)
    assert embedding.shape == (512,)
    assert np.linalg.norm(embedding) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state.pop("fc.bias"), "1 tensors are missing, .* such as 'fc.bias'"),
        (lambda state: state.update(other=torch.zeros(1)), "such as 'other'"),
        (lambda state: state.update({"fc.bias": torch.zeros(1)}), "of another shape, such as 'fc.bias'"),
        (lambda state: state.update({"layer1.999.bn1.bias": torch.zeros(1)}), "not the names of ArcFace's iresnet"),
        (lambda state: state.clear(), "not the names of ArcFace's iresnet"),
    ],
)
def test_other_safetensors_are_refused_in_a_sentence(network, change, said):
    state = dict(network.state_dict())
    change(state)
    with pytest.raises(SettingError, match=f"identity_model: .*{said}"):
        Embedder(save(state))


@pytest.mark.parametrize("file", [b"", b"no network", (10).to_bytes(8, "little") + b"{" + b"x" * 20])
def test_what_is_no_network_is_refused_in_a_sentence(file):
    with pytest.raises(SettingError, match=r"identity_model: the file was not written by torch\.export\.save"):
        Embedder(file)
    with pytest.raises(SettingError, match="syncnet: the file does not contain SyncNet's weights"):
        load_syncnet(file)


def test_safetensors_without_a_program_are_refused_for_other_networks(tmp_path):
    (tmp_path / "net").write_bytes(save({"a": torch.zeros(1)}))
    with pytest.raises(SettingError, match="inception: safetensors have no program: export the network"):
        Networks({"inception": f"{tmp_path}/net"})


def test_a_pinned_network_that_is_another_is_not_loaded(tmp_path, monkeypatch):
    """Nor is it by mistake: what would load it does not exist here."""
    (tmp_path / "net").write_bytes(exported((3, 112, 112)))
    monkeypatch.delattr(torch.export, "load")
    with pytest.raises(SettingError, match=r"identity_model: .*net has the SHA-256 .* so it is not loaded"):
        Networks({"identity_model": f"{tmp_path}/net#sha256={'0' * 64}"})
