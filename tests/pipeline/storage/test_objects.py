"""Files on disk and in a real S3 server: what is read, what is refused, and models that are fetched once."""

import subprocess
import sys
import threading
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import pytest
import s3fs

from jobs.bench.requests import RequestLog
from pipeline.common.errors import ClipError, RefusedError, StorageError
from pipeline.common.limits import Limits
from pipeline.manifest.reader import read_manifest
from pipeline.run.fingerprint import identify
from pipeline.run.lengths import estimate_seconds
from pipeline.storage import model_cache, objects, untrusted, uris
from pipeline.storage.replacing import replace_bytes

ROOT = Path(__file__).parents[3]


@pytest.fixture
def fs(s3):
    return s3fs.S3FileSystem(skip_instance_cache=True)


@pytest.fixture
def fs_in_memory():
    fs = fsspec.filesystem("memory")
    yield fs
    fs.store.clear()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FLOATCAST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def code_of(uri, limits=None):
    with pytest.raises(ClipError) as error:
        untrusted.read_input(str(uri), limits or Limits())
    assert str(uri) in error.value.message
    return error.value.code


@pytest.mark.parametrize(
    ("base", "value", "expected"),
    [
        ("/data", "a/b.wav", "/data/a/b.wav"),
        ("/data", "/other/b.wav", "/other/b.wav"),
        ("s3://bucket/in", "b.wav", "s3://bucket/in/b.wav"),
        ("s3://bucket/in", "s3://other/b.wav", "s3://other/b.wav"),
        ("s3://bucket/in/here", "../media/./b.wav", "s3://bucket/in/media/b.wav"),
        ("s3://bucket/in", "a//b.wav", "s3://bucket/in/a//b.wav"),  # an object may have such a name
        ("s3://bucket/in", "../../../b.wav", "s3://bucket/b.wav"),
        ("s3://bucket/in", "S3://Other/b.wav", "s3://Other/b.wav"),
        ("s3://bucket/in", "~/b.wav", "s3://bucket/in/~/b.wav"),
        ("/data", "file:///other/a%20b.wav", "/other/a b.wav"),
        ("/data", "FILE://localhost/other/a%C3%A9.wav", "/other/a\u00e9.wav"),
        ("/data", "a%20b.wav", "/data/a%20b.wav"),  # a plain path has no escapes
        ("/data", "~/b.wav", f"{Path.home()}/b.wav"),
        ("/data/in", "../b.wav", "/data/in/../b.wav"),  # the disk resolves it, links included
    ],
)
def test_paths_are_relative_to_the_manifest(base, value, expected):
    assert uris.resolve(base, value) == expected


def test_local_files_are_read_and_every_failure_has_its_code(tmp_path):
    (tmp_path / "a b.bin").write_bytes(b"data")
    (tmp_path / "empty").touch()
    assert untrusted.read_input(str(tmp_path / "a b.bin"), Limits()) == b"data"
    assert untrusted.read_input(f"file://{tmp_path / 'a b.bin'}", Limits()) == b"data"
    assert code_of(tmp_path / "none") == "input_not_found"
    assert code_of(tmp_path) == "input_not_found"
    assert code_of(tmp_path / "empty") == "input_empty"
    assert code_of(tmp_path / "a b.bin", Limits(max_file_megabytes=1e-6)) == "input_too_large"


@pytest.mark.parametrize(
    "uri",
    [
        "http://127.0.0.1:1/x",
        "ftp://host/x",
        "memory://x",
        "github://c/x",
        "zip://a::file:///etc/hosts",
        "x::y",
        "GS://a/b",
    ],
)
def test_schemes_that_are_not_on_the_list_are_not_opened(uri):
    assert code_of(uri) == "uri_not_allowed"


def test_objects_are_read_and_every_failure_has_its_code(s3, fs, monkeypatch):
    fs.pipe_file(f"{s3}/storage/a b.bin", b"data")
    fs.pipe_file(f"{s3}/storage/empty", b"")
    assert untrusted.read_input(f"{s3}/storage/a b.bin", Limits()) == b"data"
    assert code_of(f"{s3}/storage/none") == "input_not_found"
    assert code_of(f"{s3}/storage/empty") == "input_empty"
    assert code_of("s3://no-such-bucket/x") == "input_not_found"
    assert code_of(f"{s3}/storage/a b.bin", Limits(allowed_schemes=["file"])) == "uri_not_allowed"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    s3fs.S3FileSystem.clear_instance_cache()
    assert code_of(f"{s3}/storage/a b.bin") == "storage_error"
    monkeypatch.undo()
    s3fs.S3FileSystem.clear_instance_cache()


def test_what_is_no_object_or_too_large_is_refused_before_it_is_read(s3, fs):
    fs.pipe_file(f"{s3}/storage/folder/a.bin", b"data")
    assert code_of(f"{s3}/storage/folder/a.bin", Limits(max_file_megabytes=1e-6)) == "input_too_large"
    for folder in (f"{s3}/storage/folder", f"{s3}/storage/folder/", s3):
        with pytest.raises(ClipError, match=r"is a folder, not a file|names a bucket") as error:
            untrusted.read_input(folder, Limits())
        assert error.value.code == "input_not_found"
    with untrusted.input_file(f"{s3}/storage/folder/a.bin", Limits()) as file:
        assert file.read_bytes() == b"data"
    with pytest.raises(ClipError, match="does not exist"), untrusted.input_file(f"{s3}/storage/none", Limits()):
        pass


def test_each_action_is_one_request_whether_the_object_exists_or_not(s3, fs, tmp_path):
    (tmp_path / "file").write_bytes(b"data")
    there, missing = f"{s3}/single/there.json", f"{s3}/single/missing.json"
    for action, kinds in {
        lambda: objects.read_bytes(missing): ["GET"],
        lambda: objects.create_bytes(b"data", there): ["PUT"],
        lambda: objects.create_file(tmp_path / "file", there): ["PUT"],  # it exists
        lambda: objects.read_bytes(there): ["GET"],
        lambda: untrusted.read_input(there, Limits()): ["GET"],
        lambda: objects.put_file(tmp_path / "file", there): ["PUT"],
        lambda: replace_bytes(b"newer", there, b"data"): ["GET", "PUT"],
        lambda: replace_bytes(b"newest", there, b"data"): ["GET"],  # it is another one's
        lambda: replace_bytes(b"new", missing, b"data"): ["GET"],
        lambda: identify(there, Limits()): ["HEAD"],
        lambda: identify(missing, Limits()): ["HEAD"],
        lambda: objects.remove(there): ["DELETE"],
        lambda: objects.remove(missing): ["DELETE"],
    }.items():
        with RequestLog() as log:
            action()
        assert [request.kind for request in log.requests] == kinds


def test_storage_of_another_kind_is_read_through_fsspec(fs_in_memory):
    base = "memory://other"
    limits = Limits(allowed_schemes=["memory"])
    fs_in_memory.pipe({f"{base}/folder/a.bin": b"data", f"{base}/empty": b""})
    assert objects.read_bytes(f"{base}/folder/a.bin") == untrusted.read_input(f"{base}/folder/a.bin", limits) == b"data"
    assert objects.read_bytes(f"{base}/none") is None
    assert objects.file_info(f"{base}/folder/a.bin")["size"] == 4
    assert identify(f"{base}/folder/a.bin", limits).size == 4
    assert not identify(f"{base}/none", limits).identity
    with untrusted.input_file(f"{base}/folder/a.bin", limits) as file:
        assert file.read_bytes() == b"data"
    for name, code in (("none", "input_not_found"), ("folder", "input_not_found"), ("empty", "input_empty")):
        assert code_of(f"{base}/{name}", limits) == code
    large = Limits(allowed_schemes=["memory"], max_file_megabytes=1e-6)
    assert code_of(f"{base}/folder/a.bin", large) == "input_too_large"
    assert replace_bytes(b"new", f"{base}/folder/a.bin", b"data")
    assert not replace_bytes(b"newer", f"{base}/folder/a.bin", b"data")


def test_recent_inputs_are_read_once_and_within_their_memory(s3, fs, tmp_path):
    for name, size in (("a", 400), ("b", 500), ("c", 300), ("large", 1001)):
        fs.pipe_file(f"{s3}/recent/{name}", name[0].encode() * size)
    (tmp_path / "local").write_bytes(b"1")
    recent = untrusted.RecentInputs(Limits(), megabytes=1e-3)

    def asked(*names):
        with RequestLog() as log:
            for name in names:
                assert set(recent.read(f"{s3}/recent/{name}")) == {ord(name[0])}
        return [request.key.rsplit("/", 1)[1] for request in log.requests]

    assert asked("a", "b", "a", "b", "a") == ["a", "b"]
    assert asked("c", "a", "b") == ["c", "b"]  # b was the one that nobody had asked for longest
    assert asked("large", "large", "b") == ["large", "large"]
    for _ in range(2):
        with pytest.raises(ClipError) as error:
            recent.read(f"{s3}/recent/none")
        assert error.value.code == "input_not_found"
    fs.pipe_file(f"{s3}/recent/none", b"n")
    assert asked("none") == ["none"]
    assert recent.read(str(tmp_path / "local")) == b"1"
    (tmp_path / "local").write_bytes(b"2")
    assert recent.read(str(tmp_path / "local")) == b"2"


def test_a_file_is_stored_whole_under_its_name(s3, fs, tmp_path):
    source = tmp_path / "clip.mp4"
    source.write_bytes(b"x" * 3_000_000)
    objects.put_file(source, str(tmp_path / "new" / "folder" / "clip.mp4"))
    assert (tmp_path / "new" / "folder" / "clip.mp4").read_bytes() == source.read_bytes()
    assert [file.name for file in (tmp_path / "new" / "folder").iterdir()] == ["clip.mp4"]
    objects.put_file(source, f"{s3}/storage/put/clip one.mp4")
    assert fs.cat_file(f"{s3}/storage/put/clip one.mp4") == source.read_bytes()


def test_a_folder_that_cannot_be_written_is_known_before(tmp_path):
    objects.check_writable(str(tmp_path / "out"))
    assert list((tmp_path / "out").iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(RefusedError, match=r"output: .*file/out cannot be a folder: .*/file is a file, not a folder:"):
        objects.check_writable(str(tmp_path / "file" / "out"))


def test_trying_to_write_leaves_nothing_in_object_storage(s3, fs):
    objects.check_writable(f"{s3}/storage/new/folder")
    # SeaweedFS keeps a folder for the name; what was written into it is gone.
    assert [name for name in fs.find(f"{s3}/storage/new") if fs.size(name)] == []


def test_without_credentials_every_reader_says_so(s3, fs, cache, tmp_path, monkeypatch):
    manifest = f"{s3}/storage/m.jsonl"
    fs.pipe_file(manifest, b'{"image": "a.png", "audio": "../a.wav"}')
    clips = read_manifest(manifest).clips
    assert (clips[0].image, clips[0].audio) == (f"{s3}/storage/a.png", f"{s3}/a.wav")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        assert code_of(manifest) == "storage_error"
        with pytest.raises(StorageError, match="could not be read: there are no credentials"):
            read_manifest(manifest)
        assert estimate_seconds(clips, Limits()) == [0]
        with pytest.raises(StorageError, match="there are no credentials"):
            model_cache.local_model(f"{s3}/storage/models/any")
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


def test_a_model_in_object_storage_is_fetched_once_whoever_asks(s3, fs, tiny_model, cache):
    fs.put(str(tiny_model.path), f"{s3}/storage/models/tiny", recursive=True)
    source = f"{s3}/storage/models/tiny"
    barrier = threading.Barrier(4)

    def fetch(_):
        barrier.wait()
        return model_cache.local_model(source)

    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(fetch, range(4)))
    assert {folder.hash for folder in folders} == {tiny_model.hash}
    assert len({folder.path for folder in folders}) == 1
    # All that is left to ask the storage for is the small config: the weights may be gone.
    fs.rm_file(f"{source}/model.safetensors")
    assert model_cache.local_model(source).hash == tiny_model.hash
    assert [path for path in (cache / "models").iterdir() if path.is_dir()] == [folders[0].path]


@pytest.mark.slow
def test_processes_fetch_a_model_once_too(s3, fs, tiny_model, cache):
    source = f"{s3}/storage/models/processes"
    fs.put(str(tiny_model.path), source, recursive=True)
    code = "from pipeline.storage.model_cache import local_model; "
    code += f"f = local_model({source!r}); print(f.path.stat().st_ino, f.hash)"
    started = [
        subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate(timeout=120)[0].split() for process in started]
    assert said[0] == said[1]
    assert said[0][1] == tiny_model.hash


def test_a_model_that_was_damaged_on_its_way_is_refused_and_not_kept(s3, fs, tiny_model, cache):
    source = f"{s3}/storage/models/damaged"
    fs.put(str(tiny_model.path), source, recursive=True)
    fs.pipe_file(f"{source}/model.safetensors", b"damaged")
    with pytest.raises(RefusedError, match=r"model\.safetensors is damaged"):
        model_cache.local_model(source)
    assert not [path for path in (cache / "models").iterdir() if path.is_dir()]


def test_the_bundled_model_is_used_where_it_lies_and_is_whole_and_small(cache):
    folder = model_cache.local_model("pocket")
    assert folder.path == ROOT / "models" / "pocket"
    folder.verify()
    assert sum(file.stat().st_size for file in folder.path.rglob("*") if file.is_file()) <= 30e6
    assert not cache.exists() or not any(cache.iterdir())


def test_packages_carry_every_file_of_the_bundled_model():
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["models"]
    packed = {path for pattern in patterns for path in (ROOT / "models").glob(pattern)}
    folder = model_cache.local_model("pocket")
    assert {folder.path / name for name in (*folder.files, "config.json", "README.md")} <= packed


def test_a_local_model_is_used_where_it_is(tiny_model, cache):
    assert model_cache.local_model(str(tiny_model.path)).path == tiny_model.path
    with pytest.raises(RefusedError, match="not a model folder"):
        model_cache.local_model("/nowhere")


def test_a_listing_names_files_alone_page_by_page_and_a_bucket_is_a_folder(s3, fs, tmp_path, monkeypatch):
    monkeypatch.setattr(objects, "PAGE", 10)
    names = {f"{i:04}.json" for i in range(25)}
    fs.pipe({f"{s3}/listing/done/{name}": b"x" for name in (*names, "below/other.json")})
    assert sorted(objects.list_folder(f"{s3}/listing/done")) == sorted(names)
    assert list(objects.list_folder(f"{s3}/listing/none")) == []
    fs.pipe_file(f"{s3}/summary.at-the-root.json", b"x")
    assert "summary.at-the-root.json" in set(objects.list_folder(s3))
    assert list(objects.list_folder(str(tmp_path / "none"))) == []


def test_a_link_that_somebody_plants_for_a_probe_or_a_half_written_file_is_not_followed(tmp_path, monkeypatch):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(objects.secrets, "token_hex", lambda number: "00" * number)
    for name in (f".floatcast-write-test-{'00' * 8}", f".{'00' * 8}.part"):
        (tmp_path / "out" / name).symlink_to(tmp_path / "precious")
    with pytest.raises(RefusedError, match="is not writable"):
        objects.check_writable(str(tmp_path / "out"))
    with pytest.raises(FileExistsError):
        objects.write_bytes(b"x", str(tmp_path / "out" / "file"))
    assert (tmp_path / "precious").read_text() == "precious"
