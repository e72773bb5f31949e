"""Model folders: what is missing or damaged is said by name."""

import json

import pytest

from models import ModelFolder
from models.encoders import load_emotion_encoder
from models.model_folder import ModelFolderError


@pytest.fixture
def copy(tiny_model, tmp_path):
    for file in tiny_model.path.rglob("*"):
        if file.is_file():
            target = tmp_path / file.relative_to(tiny_model.path)
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(file.read_bytes())
    return tmp_path


def test_a_folder_without_config_is_no_model_folder(tmp_path):
    with pytest.raises(ModelFolderError, match="is not a model folder"):
        ModelFolder.open(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"format": "other/1"}'])
def test_a_config_that_is_invalid_is_refused(copy, text):
    (copy / "config.json").write_text(text)
    with pytest.raises(ModelFolderError):
        ModelFolder.open(copy)


def test_a_missing_file_is_named(copy):
    (copy / "content_encoder" / "model.safetensors").unlink()
    with pytest.raises(ModelFolderError, match=r"missing: content_encoder/model\.safetensors"):
        ModelFolder.open(copy)


def test_a_changed_file_is_named(copy):
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\xff")
    with pytest.raises(ModelFolderError, match=r"model\.safetensors is damaged"):
        ModelFolder.open(copy).verify()


def test_the_hash_changes_with_the_weights(copy, tiny_model):
    assert ModelFolder.open(copy).hash == tiny_model.hash
    values = json.loads((copy / "config.json").read_text())
    values["files"]["model.safetensors"] = "0" * 64
    (copy / "config.json").write_text(json.dumps(values))
    assert ModelFolder.open(copy).hash != tiny_model.hash


def test_an_emotion_encoder_with_other_labels_is_refused(copy):
    file = copy / "emotion_encoder" / "config.json"
    values = json.loads(file.read_text())
    values["id2label"]["0"] = "bored"
    values["label2id"] = {label: int(i) for i, label in values["id2label"].items()}
    file.write_text(json.dumps(values))
    with pytest.raises(ValueError, match="bored"):
        load_emotion_encoder(copy / "emotion_encoder")
