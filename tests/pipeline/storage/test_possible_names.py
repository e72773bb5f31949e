"""Names that nothing can have are rejected with a sentence, and no storage is asked."""

import os

import pytest

from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.storage import untrusted
from pipeline.storage.possible_names import why_impossible
from pipeline.storage.untrusted import input_file, read_input


def opened(uri, limits):
    with input_file(uri, limits) as path:
        return path


@pytest.mark.parametrize("read", [read_input, opened])
@pytest.mark.parametrize(
    ("uri", "code", "said"),
    [
        ("/films/" + "a" * 300 + ".wav", "input_not_found", "a name in it has 304 bytes, and a disk allows 255"),
        ("/films/" + "é" * 200, "input_not_found", "a name in it has 400 bytes"),
        ("file:///films/" + "a" * 300, "input_not_found", "a name in it has 300 bytes"),
        ("/" + "a/" * 2500, "input_not_found", "it has 5001 bytes, and 4095 are allowed"),
        ("/films/\ud800.wav", "input_not_found", "characters that no name can have"),
        ("/films/a\0.wav", "uri_not_allowed", "control characters"),
        ("s3://b/a.wav", "input_not_found", "check the name of the bucket"),
        ("s3:///a.wav", "input_not_found", "check the name of the bucket"),
        ("s3://my bucket/a.wav", "input_not_found", "check the name of the bucket"),
        ("s3://bücket/a.wav", "input_not_found", "check the name of the bucket"),
        ("s3://bucket/", "input_not_found", "it names a bucket, and no file in it"),
        ("s3://bucket", "input_not_found", "it names a bucket, and no file in it"),
        ("s3://bucket/" + "a" * 1025, "input_not_found", "its name has 1025 bytes, and S3 allows 1024"),
        ("s3://bucket/\ud800", "input_not_found", "characters that no name can have"),
    ],
)
def test_an_impossible_name_is_rejected_without_asking(uri, code, said, read, monkeypatch):
    def asked(*of):
        pytest.fail("the storage was asked")

    monkeypatch.setattr(untrusted, "filesystem", asked)
    monkeypatch.setattr(untrusted, "file_info", asked)
    with pytest.raises(ClipError) as raised:
        read(uri, Limits())
    assert (raised.value.code, raised.value.status) == (code, "rejected")
    assert said in raised.value.message
    assert len(raised.value.message) < 600


def test_links_in_a_circle_are_rejected(tmp_path):
    os.symlink(tmp_path / "b", tmp_path / "a")
    os.symlink(tmp_path / "a", tmp_path / "b")
    for uri in (f"{tmp_path}/a", f"{tmp_path}/a/c.wav", f"file://{tmp_path}/b"):
        with pytest.raises(ClipError, match="its links lead in a circle: give the path of the file itself") as raised:
            read_input(uri, Limits())
        assert raised.value.status == "rejected"


def test_names_that_something_can_have_pass(tmp_path):
    for uri in (
        f"{tmp_path}/{'a' * 255}",
        f"{tmp_path}/" + "e\u0301" * 127,  # of a Mac: 381 bytes, 254 where é is one character
        "s3://abc/a",
        "s3://Old_Bucket.1/a//b c",
        "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/films/a.wav",
        "gs://b/a",
    ):
        assert why_impossible(uri) == ""
