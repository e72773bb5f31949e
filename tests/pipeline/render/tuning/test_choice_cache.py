"""The cache of choices: what was written comes back, and nothing else is believed."""

import math

import pytest
import torch

from models.fast.private_cache import CacheError
from pipeline.render.tuning import choice_cache
from pipeline.render.tuning.choice_cache import ChoiceCache, Tuned, choice_key
from pipeline.render.variants import Choice, Variant

TUNED = Tuned(Choice(Variant("compiled", "float16"), Variant("eager", graph=True), 8), 66.5, 12.25, 0.1, 30.0)
CPU = torch.device("cpu")


@pytest.fixture
def cache(tmp_path):
    return ChoiceCache(tmp_path / "engines", "one")


def test_a_choice_comes_back_as_it_was_written(cache, tmp_path):
    assert cache.read() is None
    cache.write(TUNED)
    assert ChoiceCache(tmp_path / "engines", "one").read() == TUNED
    assert ChoiceCache(tmp_path / "engines", "other").read() is None


def test_a_later_choice_replaces_it_also_one_without_measurements(cache):
    cache.write(TUNED)
    later = Tuned(Choice(Variant("reference"), Variant("reference"), 4), budget=math.inf)
    cache.write(later)
    assert cache.read() == later
    cache.forget()
    assert cache.read() is None


@pytest.mark.parametrize("damage", [b"", b"{}", b'{"choice": 1}', b"\xff\xfe"])
def test_a_damaged_choice_is_none(cache, tmp_path, damage):
    cache.write(TUNED)
    (file,) = (tmp_path / "engines").rglob("choice.json")
    file.write_bytes(damage)
    assert cache.read() is None
    cache.write(TUNED)  # and does not stand in the way
    assert cache.read() == TUNED


def test_a_choice_that_somebody_else_sealed_is_none(cache, tmp_path):
    cache.write(TUNED)
    (tmp_path / "engines" / "one" / "seal").write_bytes(b"0" * 32)
    assert cache.read() is None


def test_a_sealed_choice_of_another_version_is_none(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(Choice, "values", lambda choice: {"decoder": "fast"})
    cache.write(TUNED)
    assert cache.read() is None


def test_a_folder_that_others_can_write_is_refused(tmp_path):
    (tmp_path / "engines").mkdir()
    (tmp_path / "engines").chmod(0o777)
    with pytest.raises(CacheError, match="other users can write"):
        ChoiceCache(tmp_path / "engines", "one")


def test_the_key_holds_all_that_a_choice_depends_on(monkeypatch):
    keys = {
        choice_key(CPU, model="a", slots=1),
        choice_key(CPU, model="b", slots=1),
        choice_key(CPU, model="a", slots=2),
    }
    monkeypatch.setattr(choice_cache, "code_hash", lambda: "another")
    keys.add(choice_key(CPU, model="a", slots=1))
    monkeypatch.setattr(torch, "__version__", "9.9")
    keys.add(choice_key(CPU, model="a", slots=1))
    monkeypatch.setattr(choice_cache, "machine_name", lambda device: "another")
    keys.add(choice_key(CPU, model="a", slots=1))
    assert len(keys) == 6
    assert choice_key(CPU, slots=1, model="a") in keys


def test_the_code_hash_is_that_of_the_files(monkeypatch):
    first = choice_cache.code_hash()
    assert first == choice_cache.code_hash()
    read = type(choice_cache.DRIVER).read_bytes

    def edited(path):
        return read(path) + (b"# edited" if path.name == "decoder.py" else b"")

    monkeypatch.setattr(type(choice_cache.DRIVER), "read_bytes", edited)
    assert choice_cache.code_hash() != first


def test_only_one_worker_chooses_and_who_waits_too_long_goes_on_without(cache, tmp_path, monkeypatch):
    other = ChoiceCache(tmp_path / "engines", "one")
    monkeypatch.setattr(choice_cache, "WAIT_SECONDS", 0.01)
    with cache.locked(), pytest.raises(CacheError, match="another worker has been choosing"), other.locked():
        raise AssertionError
    with other.locked():
        other.write(TUNED)
    assert cache.read() == TUNED
