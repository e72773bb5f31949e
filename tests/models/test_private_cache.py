"""Compiled code is loaded only from where this user alone can write, and only what this user has sealed."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import torch
from torch import nn

from models.fast import private_cache
from models.fast.compiled import NoCompilerError, compiled
from models.fast.private_cache import (
    CacheError,
    full,
    is_full,
    is_sealed,
    keep_inductor_private,
    private_folder,
    remove_cut_libraries,
    remove_leftovers,
    seal,
)


@pytest.fixture
def folder(tmp_path):
    """A private folder with a sealed package of two files."""
    private = private_folder(tmp_path / "cache" / "compiled")
    made = private / "part" / "made"
    (made / "content" / "data").mkdir(parents=True)
    (made / "content" / "data" / "model.so").write_bytes(b"code")
    (made / "content" / "version").write_bytes(b"0")
    seal(made, private / "Decoder-1.pt2")
    return made.rename(private / "Decoder-1.pt2")


def test_a_folder_is_made_for_this_user_alone(tmp_path):
    made = private_folder(tmp_path / "a" / "b")
    assert made.stat().st_mode & 0o777 == 0o700
    made.chmod(0o755)  # as an older version made it
    assert private_folder(made).stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702, 0o1777])
def test_a_folder_that_others_can_write_is_refused(tmp_path, mode):
    made = private_folder(tmp_path / "a")
    made.chmod(mode)
    with pytest.raises(CacheError, match=rf"other users can write the cache folder {made}, .* run `chmod 700"):
        private_folder(made)


def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    made = private_folder(tmp_path / "a")
    monkeypatch.setattr(os, "geteuid", lambda: made.stat().st_uid + 1)
    with pytest.raises(CacheError, match=r"belongs to another user, .* set FLOATCAST_CACHE to a folder of your own"):
        private_folder(made)


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match=r"cannot be used \(.*\): set FLOATCAST_CACHE"):
        private_folder(tmp_path / "file" / "a")


@pytest.mark.parametrize("change", ["content", "name", "added", "removed", "moved", "link", "foreign key", "no seal"])
def test_what_this_user_has_not_sealed_is_no_package(folder, change, tmp_path):
    assert is_sealed(folder)
    code = folder / "content" / "data" / "model.so"
    if change == "content":
        code.write_bytes(b"evil")
    elif change == "name":
        code.rename(code.with_name("other.so"))
    elif change == "added":
        (folder / "content" / "data" / "z.so").write_bytes(b"")
    elif change == "removed":
        (folder / "content" / "version").unlink()
    elif change == "moved":  # another package of this user, in the place of this one
        folder = folder.rename(folder.with_name("Field-1.pt2"))
    elif change == "link":
        code.rename(tmp_path / "model.so")
        code.symlink_to(tmp_path / "model.so")
    elif change == "foreign key":  # a package that was sealed in another cache, and copied into this one
        other = private_folder(tmp_path / "other") / folder.name
        shutil.copytree(folder / "content", other / "content")
        seal(other, other)
        shutil.rmtree(folder)
        shutil.copytree(other, folder)
    else:
        (folder / "seal").unlink()
    assert not is_sealed(folder)


def test_a_key_that_others_can_read_or_have_made_is_not_used(folder, monkeypatch):
    key = folder.parent / "key"
    assert key.stat().st_mode & 0o777 == 0o600
    key.chmod(0o640)
    assert not is_sealed(folder)
    assert key.stat().st_mode & 0o777 == 0o600  # a new one


class Adder(nn.Module):
    def forward(self, x, parts):
        return x + parts[0]


def test_a_replaced_package_is_not_loaded_and_not_kept(tmp_path, monkeypatch, caplog):
    """Its library would kill this process when it is loaded. Compiling again takes long, so there is no compiler."""
    module, inputs = Adder().eval(), (torch.zeros(2), [torch.zeros(2)])
    monkeypatch.setenv("CXX", "/no/compiler")
    with pytest.raises(NoCompilerError):
        compiled(module, inputs, weights="a", cache=tmp_path / "cache")
    (lock,) = (tmp_path / "cache").glob("*.lock")
    package = lock.with_suffix(".pt2")
    (package / "content" / "data" / "aotinductor" / "model").mkdir(parents=True)
    library = package / "content" / "data" / "aotinductor" / "model" / "a.so"
    source = f"__attribute__((constructor)) static void run(void) {{ __builtin_trap(); }}  // {library}"
    if shutil.which("gcc"):
        subprocess.run(["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", library], input=source.encode(), check=True)
    else:
        library.write_bytes(b"not even a library")
    (package / "seal").write_bytes(b"0" * 32)
    with pytest.raises(NoCompilerError):
        compiled(module, inputs, weights="a", cache=tmp_path / "cache")
    assert not package.exists()
    assert "not what this user has compiled" in caplog.text


def test_a_full_disk_says_so():
    with pytest.raises(OSError, match="No space") as error, open("/dev/full", "w") as file:
        file.write("x")
    wrapped = RuntimeError("the package could not be written")
    wrapped.__cause__ = error.value
    for one in (error.value, wrapped, RuntimeError("/tmp/cc1.s: No space left on device")):
        assert is_full(one)
    assert not is_full(RuntimeError("syntax error"))
    assert str(full("/cache")).startswith("the disk of the cache folder /cache is full: free some space, or set")


def test_leftovers_of_killed_processes_are_removed_and_those_of_living_ones_are_not(tmp_path, monkeypatch):
    for name, hours in (("aotinductor_old", 7), ("aotinductor_new", 1), ("other", 100)):
        (tmp_path / name / "data").mkdir(parents=True)
        os.utime(tmp_path / name, (time.time() - 3600 * hours,) * 2)
    (tmp_path / "aotinductor_link").symlink_to(tmp_path / "other")
    monkeypatch.setattr(private_cache.tempfile, "tempdir", str(tmp_path))
    private_cache.remove_unpacked_packages()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["aotinductor_link", "aotinductor_new", "other"]
    remove_leftovers(tmp_path / "none", "*")


def test_inductors_own_cache_is_private_too(tmp_path, monkeypatch):
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    codecache = pytest.importorskip("torch._inductor.codecache")
    for name in ("_HEADER_DIR", "_HEADER_LOCK_DIR"):
        monkeypatch.setattr(codecache, name, "")
    keep_inductor_private(tmp_path / "cache")
    place = tmp_path / "cache" / "inductor"
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(place)
    assert str(place / "headers") == codecache._HEADER_DIR
    assert place.stat().st_mode & 0o777 == 0o700
    place.chmod(0o777)
    with pytest.raises(CacheError, match="other users can write"):
        keep_inductor_private(tmp_path / "cache")


def test_libraries_that_a_crash_has_cut_off_are_removed_and_whole_or_young_ones_stay(tmp_path):
    whole = Path(torch.__file__).parent / "lib" / "libshm.so"
    content = whole.read_bytes()
    for name, data in (
        ("whole", content),
        ("cut", content[:-100]),
        ("empty", b""),
        ("young", b""),
        ("other", b"x" * 99),
    ):
        (tmp_path / "ab").mkdir(exist_ok=True)
        library = tmp_path / "ab" / f"{name}.main.so"
        library.write_bytes(data)
        if name != "young":
            os.utime(library, (time.time() - 3600,) * 2)
    remove_cut_libraries(tmp_path)
    assert sorted(path.name.split(".")[0] for path in (tmp_path / "ab").iterdir()) == ["other", "whole", "young"]
