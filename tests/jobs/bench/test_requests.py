"""What a run asks of the object storage: counted on a real server, where the HTTP client sends it."""

import json
from collections import Counter

import pytest

from jobs.bench import requests
from jobs.bench.requests import RENDERING, RequestLog, count_requests, requests_table
from pipeline.common.errors import RefusedError
from pipeline.storage.objects import list_folder, read_bytes, write_bytes
from tests.running import run_job


@pytest.fixture(scope="module")
def counted(s3, tiny_model):
    """The requests of a first run and of one with nothing to do, of six clips with two portraits."""
    return count_requests(f"{s3}/counted", clips=6, portraits=2, model=str(tiny_model.path))


def kinds(run, name):
    """Kinds of the requests per clip or portrait, for the keys that contain `name`."""
    return Counter(request.kind for request in run.log.requests if name in request.key)


@pytest.mark.slow
def test_a_clip_costs_at_most_twelve_requests_and_none_on_the_rendering_thread(counted):
    first, _ = counted
    assert first.per_clip() <= 12
    assert first.per_clip(thread=RENDERING) == 0
    assert first.per_clip("LIST") == first.per_clip("POST") == 0
    assert kinds(first, "/videos/") == {"PUT": 6, "GET": 6, "LIST": 1}  # at the end
    assert kinds(first, "/qc/") == {"PUT": 12, "GET": 6}  # measurements and contact sheet; the report reads the sheet


@pytest.mark.slow
def test_an_input_is_read_once_by_each_stage_and_a_shared_portrait_once_by_each_worker(counted):
    first, _ = counted
    assert kinds(first, ".wav") == {"HEAD": 6, "GET": 12}  # plan; features and quality control
    assert kinds(first, ".png")["GET"] == 4


@pytest.mark.slow
def test_a_run_with_nothing_to_do_asks_for_the_sound_of_each_clip_and_for_nothing_else_of_it(counted):
    _, second = counted
    assert second.per_clip() == 1
    assert kinds(second, ".wav") == {"HEAD": 6}
    assert kinds(second, ".png").keys() == {"HEAD"}


@pytest.mark.slow
def test_the_table_says_it_and_nothing_is_left_behind(counted, s3):
    text = requests_table(counted)
    assert "first run" in text
    assert "nothing to do" in text
    assert list(list_folder(f"{s3}/counted")) == []


def test_requests_are_recorded_with_their_kind_key_and_thread(s3):
    with RequestLog() as log:
        write_bytes(b"x", f"{s3}/log/a b")
        assert read_bytes(f"{s3}/log/a b") == b"x"
        assert sorted(list_folder(f"{s3}/log")) == ["a b"]
    found = [(request.kind, request.key, request.thread) for request in log.requests]
    assert found == [
        ("PUT", "/tests/log/a b", "MainThread"),
        ("GET", "/tests/log/a b", "MainThread"),
        ("LIST", "log/", "MainThread"),
    ]
    read_bytes(f"{s3}/log/a b")
    assert len(log.requests) == 3  # the context has ended


def test_another_place_is_refused(tmp_path):
    with pytest.raises(RefusedError, match="is not an s3:// folder"):
        count_requests(str(tmp_path))
    done = run_job("benchmark", f"requests={tmp_path}")
    assert done.returncode == 2
    assert "is not an s3:// folder" in done.stderr


@pytest.mark.slow
def test_the_command_prints_the_figures_and_writes_them(s3, tmp_path, monkeypatch):
    monkeypatch.setattr(requests, "CLIPS", 2)
    done = run_job("benchmark", f"requests={s3}/command", f"json={tmp_path / 'figures.json'}")
    assert done.returncode == 0, done.stderr
    assert "requests a clip" in done.stdout
    figures = json.loads((tmp_path / "figures.json").read_text())["sections"]["requests"]["figures"]
    assert figures["first_run_requests_a_clip"] > figures["nothing_to_do_requests_a_clip"] > 0
