"""Storage that accepts connections and then says nothing, or drop by drop: a sentence, after a bounded time."""

import pytest
import s3fs

from pipeline.common.errors import ClipError, StorageError
from pipeline.common.limits import Limits
from pipeline.storage import objects, s3
from pipeline.storage.untrusted import input_file, read_input
from tests.slow_server import SlowServer

TRICKLE = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nETag: x\r\n\r\n" + bytes(100_000)


@pytest.fixture
def slow(monkeypatch):
    """A function that starts such a server, for clients of little patience."""
    servers = []

    def start(answer=b""):
        servers.append(SlowServer(answer).__enter__())
        monkeypatch.setenv("AWS_ENDPOINT_URL", servers[-1].url)
        return servers[-1]

    for name, value in (("AWS_ACCESS_KEY_ID", "k"), ("AWS_SECRET_ACCESS_KEY", "s"), ("AWS_DEFAULT_REGION", "r")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(s3, "READ_SECONDS", 0.3)
    monkeypatch.setattr(s3, "ATTEMPTS", 1)
    monkeypatch.setattr(s3, "ANSWER_SECONDS", 1.0)
    monkeypatch.setattr(s3, "SLOWEST", 1e9)
    monkeypatch.setattr(objects, "TRIES", 2)
    s3fs.S3FileSystem.clear_instance_cache()
    yield start
    for server in servers:
        server.__exit__()
    s3fs.S3FileSystem.clear_instance_cache()


def opened(uri, limits):
    with input_file(uri, limits) as path:
        return path


@pytest.mark.parametrize("read", [read_input, opened])
def test_a_storage_that_says_nothing_is_given_up_after_a_few_requests(slow, read):
    server = slow()
    with pytest.raises(
        ClipError, match=r"did not answer in time, in 2 tries within \d+ s: check the network"
    ) as raised:
        read("s3://bucket/a.wav", Limits())
    assert raised.value.code == "storage_error"
    assert server.requests <= objects.TRIES * s3.TRIES


@pytest.mark.parametrize("read", [read_input, opened])
def test_a_storage_that_answers_drop_by_drop_is_given_up(slow, read):
    slow(TRICKLE)
    with pytest.raises(ClipError, match=r"did not answer in time, in 2 tries within \d+ s") as raised:
        read("s3://bucket/a.wav", Limits())
    assert raised.value.code == "storage_error"


def test_no_try_begins_after_a_bounded_time(slow, monkeypatch):
    server = slow()
    monkeypatch.setattr(objects, "RETRY_SECONDS", 0.0)
    with pytest.raises(StorageError, match=r"did not answer in time, within \d+ s"):
        objects.read_bytes("s3://bucket/a.json")
    assert server.requests <= s3.TRIES
