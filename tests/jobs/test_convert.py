"""`jobs.convert`: a released checkpoint of full size becomes a model folder that renders the same."""

import json
import math
import stat
from pathlib import Path

import pytest
import torch

from models import FLOAT, ModelFolder, load_float
from models.encoders import load_content_encoder
from tests.released_weights import is_computed
from tests.running import run_job

DATA = Path(__file__).parents[1] / "data"


@pytest.mark.slow
def test_a_checkpoint_becomes_a_model_folder_and_names_its_licence(tmp_path):
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    shapes = json.loads((DATA / "float_state_dict.json").read_text())
    state = {
        name: torch.linspace(number, number + 1, math.prod(shape)).reshape(shape)
        for number, (name, shape) in enumerate(shapes.items())
        if not is_computed(name)
    }
    torch.save(state, tmp_path / "float.pth")
    # As many channels as wav2vec2-base has (12 layers of 768), from a network that is small otherwise.
    small = {"intermediate_size": 64, "num_conv_pos_embeddings": 16, "conv_dim": (16,) * 7}
    Wav2Vec2Model(Wav2Vec2Config(**small)).save_pretrained(tmp_path / "content")
    done = run_job(
        "convert",
        f"float={tmp_path / 'float.pth'}",
        f"output={tmp_path / 'model'}",
        f"content_encoder={tmp_path / 'content'}",
        f"emotion_encoder={DATA / 'tiny_ser'}",
    )
    assert done.returncode == 0, done.stderr
    assert "CC BY-NC-ND 4.0" in done.stdout
    folder = ModelFolder.open(tmp_path / "model")
    folder.verify()
    assert folder.trained
    assert {stat.S_IMODE(file.stat().st_mode) & 0o044 for file in folder.path.rglob("*.safetensors")} == {0o044}
    loaded, expected = load_float(folder), FLOAT.from_released(state)
    for name, tensor in expected.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert load_content_encoder(folder.path / "content_encoder").dim == 9216


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "float: give a local path"), (b"not a checkpoint", "error: "), ({"a": 1}, "names do not match")],
)
def test_anything_but_a_checkpoint_is_refused(tmp_path, content, message):
    arguments = [f"output={tmp_path / 'model'}"]
    if content is not None:
        arguments.append(f"float={tmp_path / 'float.pth'}")
        if isinstance(content, bytes):
            (tmp_path / "float.pth").write_bytes(content)
        else:
            torch.save(content, tmp_path / "float.pth")
    done = run_job("convert", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "model").exists()
