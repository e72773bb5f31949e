"""Copies of models on a node: each is checked once, by the workers too, and lies where others cannot write."""

import os
import shutil

import fsspec
import pytest

from models import ModelFolder
from pipeline.common.errors import RefusedError, StorageError
from pipeline.storage import model_cache
from pipeline.storage.model_cache import checked_model, local_model


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOATCAST_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(model_cache, "RECORDED_BYTES", 0)  # as if the very small model were a large one
    return tmp_path / "cache"


@pytest.fixture
def copy(tiny_model, tmp_path):
    return shutil.copytree(tiny_model.path, tmp_path / "model")


@pytest.fixture
def remote(tiny_model):
    """A model in a storage that is not a disk."""
    fs = fsspec.filesystem("memory")
    for name in ("config.json", *tiny_model.files):
        fs.pipe_file(f"/models/tiny/{name}", (tiny_model.path / name).read_bytes())
    fs.pipe_file("/models/tiny/checkpoints/old.bin", b"x" * 1000)
    yield "memory://models/tiny"
    fs.store.clear()


@pytest.fixture
def hashed(monkeypatch):
    """Counts how often the weights of a model are read to check them."""
    found, verify = [], ModelFolder.verify
    monkeypatch.setattr(ModelFolder, "verify", lambda self: (found.append(self.path), verify(self))[1])
    return found


def damage(file):
    size = file.stat().st_size
    with file.open("r+b") as opened:
        opened.seek(size - 1)
        last = opened.read(1)[0]
        opened.seek(size - 1)
        opened.write(bytes([last ^ 1]))


def test_a_model_that_workers_share_is_checked_once_until_it_changes(copy, cache, hashed):
    for _ in range(3):  # as many workers
        local_model(str(copy))
    assert len(hashed) == 1
    checked_model(str(copy))
    assert len(hashed) == 2  # the driver reads it whatever the record says
    damage(copy / "emotion_encoder" / "model.safetensors")
    for _ in range(2):
        with pytest.raises(RefusedError, match=r"emotion_encoder/model\.safetensors is damaged"):
            local_model(str(copy))


def test_another_file_with_the_same_size_and_date_is_noticed(copy, cache):
    weights = copy / "model.safetensors"
    local_model(str(copy))
    date = weights.stat()
    damage(weights)
    os.utime(weights, ns=(date.st_atime_ns, date.st_mtime_ns))
    with pytest.raises(RefusedError, match="is damaged"):
        local_model(str(copy))


def test_a_record_that_others_could_have_written_is_not_believed(copy, cache, hashed):
    local_model(str(copy))
    (cache / "checked").chmod(0o777)
    local_model(str(copy))
    assert len(hashed) == 2


def test_of_a_remote_model_only_what_it_lists_is_fetched(remote, cache, hashed, tiny_model):
    folder = local_model(remote)
    assert local_model(remote).hash == tiny_model.hash
    assert len(hashed) == 1
    assert not (folder.path / "checkpoints").exists()
    assert folder.path.parent == cache / "models"
    assert (cache / "models").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("harm", [damage, os.remove], ids=["damaged", "removed"])
def test_a_fetched_copy_that_was_harmed_is_fetched_again(remote, cache, harm):
    weights = local_model(remote).path / "model.safetensors"
    harm(weights)
    local_model(remote).verify()
    assert weights.exists()


def test_a_remote_model_without_one_of_its_files_is_refused_by_name(remote, cache):
    fsspec.filesystem("memory").rm_file("/models/tiny/content_encoder/model.safetensors")
    with pytest.raises(
        RefusedError, match=r"memory://models/tiny is incomplete; .*: content_encoder/model\.safetensors;"
    ):
        local_model(remote)
    assert [path.name for path in (cache / "models").iterdir() if path.is_dir()] == []


def test_a_cache_that_others_can_write_is_refused(remote, cache):
    (cache / "models").mkdir(parents=True)
    (cache / "models").chmod(0o775)
    with pytest.raises(RefusedError, match="other users can write the cache folder"):
        local_model(remote)


def test_a_full_disk_says_so(remote, cache, monkeypatch):
    def write(*_, **__):
        with open("/dev/full", "w") as file:
            file.write("x")

    monkeypatch.setattr(fsspec.filesystem("memory"), "get", write)
    monkeypatch.setattr("pipeline.storage.objects.TRIES", 1)
    with pytest.raises(StorageError, match=r"the disk of the cache folder .* is full: free some space, or set"):
        local_model(remote)
