"""Checkpoints in an output, on disk and in object storage: the newest complete one counts, and few are kept."""

import json

import pytest

from pipeline.storage.objects import filesystem, remove, write_bytes
from pipeline.storage.uris import join
from pipeline.training.checkpoint import (
    CHECKPOINTS,
    STATE,
    CheckpointError,
    check_same,
    checkpoint_uri,
    load_checkpoint,
    newest,
    save_checkpoint,
    store,
)
from pipeline.training.run import check_run
from pipeline.training.settings import TrainSettings

RUN = {"model": "hash"}


class Learner:
    """What `save_checkpoint` asks of one."""

    def __init__(self, value):
        self.value = value

    def state(self):
        return {"value": self.value}

    def load(self, state):
        self.value = state["value"]


class Stage:
    def __init__(self, value):
        self.learners = {"one": Learner(value), "other": Learner(-value)}


@pytest.fixture
def stored(output, tmp_path):
    """Stores the checkpoint of a step into `output`."""

    def act(step, keep=2):
        local = tmp_path / f"local-{step}"
        local.mkdir()
        save_checkpoint(local, Stage(step), step, RUN, {"loss": 1 / step})
        store(local, output, step, keep)
        return checkpoint_uri(output, step)

    return act


def folders(output):
    """Names of those with files: object storage has no others, if this server shows them for a while."""
    fs, path = filesystem(join(output, CHECKPOINTS))
    return sorted({file.split("/")[-2] for file in fs.find(path) if not file.endswith("/")} - {CHECKPOINTS})


def test_the_newest_checkpoint_comes_back_and_as_many_are_kept_as_wanted(output, stored):
    assert newest(output) is None
    for step in (2, 9, 10, 1000):
        stored(step)
    assert folders(output) == ["checkpoint_000000010", "checkpoint_000001000"]
    found = newest(output)
    assert (found.step, found.figures, found.run) == (1000, {"loss": 0.001}, RUN)
    stage = Stage(0)
    load_checkpoint(output, 1000, stage, RUN)
    assert [learner.value for learner in stage.learners.values()] == [1000, -1000]
    with pytest.raises(CheckpointError, match="model was 'hash', is 'other'"):
        check_same(found, {"model": "other"})


def cut_off_before_the_state(uri):
    remove(join(uri, STATE))


def cut_off_within_the_state(uri):
    write_bytes(b'{"step": 6, "fi', join(uri, STATE))


def cut_off_within_a_file(uri):
    write_bytes(b"short", join(uri, "other.pt"))


def cut_off_while_it_was_removed(uri):
    remove(join(uri, "one.pt"))


@pytest.mark.parametrize(
    "cut_off",
    [cut_off_before_the_state, cut_off_within_the_state, cut_off_within_a_file, cut_off_while_it_was_removed],
)
def test_an_incomplete_checkpoint_is_passed_over_and_the_next_one_clears_it_away(output, stored, cut_off):
    stored(4)
    cut_off(stored(6))
    assert newest(output).step == 4
    with pytest.raises(CheckpointError, match=r"no complete checkpoint of step 6"):
        load_checkpoint(output, 6, Stage(0), RUN)
    stored(5)  # the run goes on from 4, and saves more often
    assert newest(output).step == 5
    assert folders(output) == ["checkpoint_000000004", "checkpoint_000000005"]


def test_a_checkpoint_is_stored_in_place_of_one_that_was_cut_off(output, stored, tmp_path):
    cut_off_within_a_file(stored(6))
    (tmp_path / "local-6").rename(tmp_path / "first")
    stored(6)
    assert newest(output).step == 6


def test_anything_but_a_checkpoint_is_left_alone(output, stored):
    for name in ("checkpoint_2026-01-01_10-00-00.000000", "mine"):
        write_bytes(json.dumps({"step": 9}).encode(), join(output, CHECKPOINTS, name, STATE))
    stored(3, keep=1)
    assert newest(output).step == 3
    assert folders(output) == ["checkpoint_000000003", "checkpoint_2026-01-01_10-00-00.000000", "mine"]


def test_checkpoints_of_an_earlier_version_are_refused_and_not_trained_over(output, tiny_model):
    write_bytes(b'{"step": 5}', join(output, CHECKPOINTS, "checkpoint_2026-11-20_10-00-00.123456", STATE))
    with pytest.raises(CheckpointError, match=r"checkpoint_2026-11-20.* of an earlier version.*give another output="):
        check_run(TrainSettings(), tiny_model, output)


def test_an_output_without_checkpoints_begins_at_the_start(output, tiny_model):
    assert check_run(TrainSettings(), tiny_model, output) == 0
