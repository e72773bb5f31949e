"""Model folders: what is missing, unlisted, out of bounds or damaged is said by name, before anything is loaded."""

import json
import os

import pytest

from models import FloatConfig, ModelFolder
from models.config import LIMITS
from models.encoders import load_emotion_encoder
from models.model_folder import ModelFolderError, load_float


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


def edit(folder, change):
    values = json.loads((folder / "config.json").read_text())
    change(values)
    (folder / "config.json").write_text(json.dumps(values))


@pytest.mark.parametrize("name", [*LIMITS, "channels"])
def test_every_size_has_bounds(name):
    least = LIMITS.get(name, (1,))[0]
    for value in (least - 1, -(10**30), 10**7, 10**30, 1.5, True, "8", None, [1]):
        given = [16, value, 16] if name == "channels" else value
        with pytest.raises(ValueError, match=f"^{name}.* must be ") as refused:
            FloatConfig.from_dict(FloatConfig().to_dict() | {name: given})
        assert len(str(refused.value)) < 200


def test_ten_million_blocks_are_refused_by_their_name(copy):
    edit(copy, lambda values: values["config"].update(blocks=10**7))
    with pytest.raises(ModelFolderError, match=r"is not a valid .*: blocks must be from 1 to 128, got 10000000"):
        ModelFolder.open(copy)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda v: v["config"].update(layers=3), "unknown names layers"),
        (lambda v: v["config"].update(channels=[16] * 11), "at most 10"),
        (lambda v: v["config"].update(emotion="x" * 9999), "emotion must be one of"),
        (lambda v: v.update(name="a\x1b[2J"), "name must be a text"),
        (lambda v: v.update(name=["a"]), "name must be a text"),
        (lambda v: v.update(trained="yes"), "trained must be true or false"),
        (lambda v: v.update(history={}), "history must be a list"),
        (lambda v: v.update(format=["x" * 9999]), "this version reads"),
        (lambda v: v.pop("licence"), "configuration: no 'licence'"),
        (lambda v: v.update(files=[]), "files must be an object"),
        (lambda v: v.update(files={f"{i}": "0" * 64 for i in range(2000)}), "at most 1000"),
        (lambda v: v["files"].update({"../../secret": "0" * 64}), "not a name inside the folder"),
        (lambda v: v["files"].update({"/etc/passwd": "0" * 64}), "not a name inside the folder"),
        (lambda v: v["files"].update({"model.safetensors": 5}), "not a SHA-256"),
    ],
)
def test_a_config_whose_values_cannot_be_is_refused_in_a_short_sentence(copy, change, said):
    edit(copy, change)
    with pytest.raises(ModelFolderError, match=said) as refused:
        ModelFolder.open(copy)
    assert len(str(refused.value)) < 500


def test_a_config_that_is_huge_deep_or_a_pipe_is_refused(copy):
    (copy / "config.json").write_text("[" * 100_000)
    with pytest.raises(ModelFolderError, match="nested too deeply"):
        ModelFolder.open(copy)
    (copy / "config.json").write_text(" " * (5 << 20))
    with pytest.raises(ModelFolderError, match="more than 4 MiB"):
        ModelFolder.open(copy)
    (copy / "config.json").unlink()
    os.mkfifo(copy / "config.json")
    with pytest.raises(ModelFolderError, match=r"has no readable config\.json"):
        ModelFolder.open(copy)


@pytest.mark.parametrize("files", [[], ["model.safetensors"], ["content_encoder/config.json"]])
def test_a_list_without_the_files_that_are_read_is_refused(copy, files):
    edit(copy, lambda values: values.update(files={name: values["files"][name] for name in files}))
    with pytest.raises(ModelFolderError, match=r"no SHA-256 for files that would be read: .*config\.json"):
        ModelFolder.open(copy)


@pytest.mark.parametrize(
    "name",
    [
        "other.safetensors",
        "emotion_encoder/pytorch_model.bin",
        "content_encoder/adapter_config.json",
        "content_encoder/modeling.py",
        "content_encoder/model.safetensors.index.json",
    ],
)
def test_files_that_loading_would_read_are_refused_unless_they_are_listed(copy, name):
    (copy / name).write_bytes(b"x")
    with pytest.raises(ModelFolderError, match=rf"no SHA-256 for files that would be read: {name}; remove"):
        ModelFolder.open(copy)


def test_foreign_files_that_nothing_reads_do_no_harm(copy):
    for name in ("README.md", "content_encoder/LICENSE", ".DS_Store", "notes/old.safetensors"):
        (copy / name).parent.mkdir(exist_ok=True)
        (copy / name).write_bytes(b"x")
    ModelFolder.open(copy).verify()


@pytest.mark.parametrize("values", [{"num_hidden_layers": 10**7}, {"inner": {"depths": [2, 10**7]}}, []])
def test_an_encoder_of_ten_million_layers_is_refused(copy, values):
    (copy / "content_encoder" / "config.json").write_text(json.dumps(values))
    with pytest.raises(ModelFolderError, match=r"no encoder|not a JSON object"):
        ModelFolder.open(copy)


def test_weights_of_another_size_are_refused_in_a_sentence(copy):
    edit(copy, lambda values: values["config"].update(blocks=3))
    folder = ModelFolder.open(copy)
    with pytest.raises(ModelFolderError, match=r"does not fit the sizes in config\.json: \d+ tensors") as refused:
        load_float(folder)
    assert len(str(refused.value)) < 600


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
