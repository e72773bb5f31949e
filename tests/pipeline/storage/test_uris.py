"""The names of inputs: found however they are spelled, and a hint where they are not."""

import os
import unicodedata
from urllib.parse import quote

import pytest
import s3fs

from pipeline.common.errors import ClipError, RefusedError
from pipeline.common.limits import Limits
from pipeline.run.fingerprint import identify
from pipeline.run.lengths import size_of
from pipeline.storage.near_names import missing
from pipeline.storage.untrusted import input_file, read_input
from pipeline.storage.uris import absolute, resolve

NFC, NFD = (unicodedata.normalize(form, "café ü.wav") for form in ("NFC", "NFD"))


def told(uri, limits=None):
    with pytest.raises(ClipError) as caught:
        read_input(str(uri), limits or Limits())
    assert caught.value.code == "input_not_found"
    return caught.value.message


@pytest.mark.parametrize("name", ["a b.wav", "a%20b.wav", "100%.wav", "a#b?c.wav", "a::b.wav", NFC, "a+b&c.wav"])
@pytest.mark.parametrize("head", ["file://", "FILE://", "file://localhost", "File://LOCALHOST"])
def test_a_file_uri_names_the_file_whose_path_it_encodes(tmp_path, head, name):
    (tmp_path / name).write_bytes(b"data")
    assert resolve("/elsewhere", f"{head}{quote(str(tmp_path / name))}") == str(tmp_path / name)
    if "::" not in name:
        assert read_input(f"{head}{quote(str(tmp_path / name))}", Limits()) == b"data"
    assert absolute(f"{head}{quote(str(tmp_path / name))}") == str(tmp_path / name)


def test_a_percent_sign_is_literal_in_a_path_and_where_a_program_forgot_to_encode_it(tmp_path):
    (tmp_path / "a%20b.wav").write_bytes(b"literal")
    assert read_input(f"{tmp_path}/a%20b.wav", Limits()) == b"literal"
    assert read_input(f"file://{tmp_path}/a%20b.wav", Limits()) == b"literal"
    (tmp_path / "a b.wav").write_bytes(b"decoded")
    assert read_input(f"{tmp_path}/a%20b.wav", Limits()) == b"literal"
    assert read_input(f"file://{tmp_path}/a%20b.wav", Limits()) == b"decoded"


@pytest.mark.parametrize(("written", "stored"), [(NFC, NFD), (NFD, NFC)])
def test_a_name_is_found_in_the_other_form_of_its_accents_and_the_exact_one_comes_first(tmp_path, written, stored):
    folder = tmp_path / stored[:-4]
    folder.mkdir()
    (folder / stored).write_bytes(b"other form")
    asked = f"{tmp_path}/{written[:-4]}/{written}"
    assert read_input(asked, Limits()) == b"other form"
    assert identify(asked, Limits()) == identify(str(folder / stored), Limits())
    assert size_of(asked, Limits()) == len(b"other form")
    with input_file(asked, Limits()) as file:
        assert file.read_bytes() == b"other form"
    (folder / written).write_bytes(b"exact")
    assert read_input(f"{folder}/{written}", Limits()) == b"exact"


def test_a_home_folder_is_meant_beside_a_local_table_unless_a_folder_has_that_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert resolve(str(tmp_path), "~/a.wav") == f"{tmp_path}/home/a.wav"
    assert resolve(str(tmp_path), "~a.wav") == f"{tmp_path}/~a.wav"
    (tmp_path / "~").mkdir()
    assert resolve(str(tmp_path), "~/a.wav") == f"{tmp_path}/~/a.wav"


@pytest.mark.parametrize("name", [NFC, "in/a.wav", "in//b.wav", "a b.wav"])
def test_objects_are_found_however_their_names_are_spelled(s3, name):
    fs = s3fs.S3FileSystem(skip_instance_cache=True)
    fs.pipe_file(f"{s3}/names/{name}", b"data")
    others = {NFC: [NFD], "in/a.wav": ["in//a.wav", "./in/a.wav", "in/x/../a.wav", "in/a.wav/"]}.get(name, [])
    for spelled in (name, *others):
        for root in (f"{s3}/names", f"S3{s3[2:]}/names"):
            uri = resolve(root.lower(), spelled)
            assert resolve("/elsewhere", f"{root}/{spelled}") == uri
            assert read_input(uri, Limits()) == b"data"
            assert identify(uri, Limits()) == identify(f"{s3}/names/{name}", Limits())
            with input_file(uri, Limits()) as file:
                assert file.read_bytes() == b"data"


# --- Hints -----------------------------------------------------------------------------------------------------

HINTS = {
    "another case": ("face.jpg", "Face.JPG"),
    "another suffix": ("face.jpeg", "face.jpg"),
    "no suffix": ("face", "face.png"),
    "a space at the end": ("face.jpg", "face.jpg "),
    "a space that the table has": (" face.jpg", "face.jpg"),
    "an escape": ("my%20face.jpg", "my face.jpg"),
    "a query": ("face.jpg?x=1", "face.jpg"),
    "a full-width letter": ("a.wav", "\uff41.wav"),
}


@pytest.mark.parametrize("case", HINTS)
def test_the_name_nearby_that_was_meant_is_named(case, tmp_path):
    asked, there = HINTS[case]
    (tmp_path / "other.jpg").touch()
    (tmp_path / there).write_bytes(b"data")
    message = told(tmp_path / asked)
    assert "does not exist: there is " in message
    assert there in message
    assert asked in message
    assert message.isprintable()


def test_the_object_nearby_that_was_meant_is_named(s3):
    fs = s3fs.S3FileSystem(skip_instance_cache=True)
    fs.pipe_file(f"{s3}/hints/Face.JPG", b"data")
    assert f"there is {s3}/hints/Face.JPG" in told(f"{s3}/hints/face.jpg")
    assert told(f"{s3}/hints/sound.wav").endswith("does not exist: correct the path or upload the file")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("C:\\media\\face.jpg", "C:\\media\\face.jpg is a path of Windows; give the path that this"),
        ("D:/media/face.jpg", "D:/media/face.jpg is a path of Windows"),
        ("\\\\server\\share\\face.jpg", "\\\\server\\share\\face.jpg is a path of Windows"),
        ("file:///C:/media/face.jpg", "C:/media/face.jpg is a path of Windows"),
        ("media\\face.jpg", "write / instead of \\ between folders, as in "),
        ("media\\none.jpg", "write / instead of \\ between folders"),
        ("file:/media/face.jpg", "write file:///folder/name or s3://bucket/name"),
        ("s3:/bucket/face.jpg", "write file:///folder/name or s3://bucket/name"),
        ("Media/face.jpg", "there is {folder}/media; correct the path or rename the folder"),
        ("video/face.jpg", "the folder {folder}/video does not exist either; correct the path or upload the files"),
        ("media/face.jpg/x.jpg", "does not exist"),
        ("link.jpg", "it is a link, and the file to which it leads is missing"),
        ("none.jpg", "does not exist: correct the path or upload the file"),
    ],
)
def test_what_is_wrong_with_a_path_is_said(tmp_path, value, said):
    (tmp_path / "media").mkdir()
    (tmp_path / "media" / "face.jpg").touch()
    (tmp_path / "link.jpg").symlink_to(tmp_path / "gone.jpg")
    assert said.format(folder=tmp_path) in told(resolve(str(tmp_path), value))


def test_a_message_does_not_quote_a_very_long_path(tmp_path):
    assert len(told(tmp_path / "/".join(["long" * 50] * 10))) < 1000


def test_a_folder_is_listed_once_for_many_rows(tmp_path, monkeypatch):
    (tmp_path / "Face.JPG").touch()
    listed = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: listed.append(folder) or scandir(folder))
    for i in range(20):
        missing(f"{tmp_path}/none-{i}.jpg")
    assert len(listed) <= 2  # a minute may end in between


@pytest.mark.parametrize("uri", ["~\0x", "/data/a\0b", "s3://bucket/a\0b"])
def test_a_zero_byte_is_refused(uri):
    with pytest.raises(RefusedError, match=r"contains a zero byte"):
        absolute(uri)
