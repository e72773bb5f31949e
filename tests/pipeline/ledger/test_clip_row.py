"""Errors become rows."""

from pathlib import Path

import pytest

from pipeline.common.errors import CODES, ClipError
from pipeline.ledger.clip_row import error_row
from pipeline.ledger.columns import column_table, with_names_of_now
from pipeline.manifest.reader import read_manifest

DEMO = Path(__file__).parents[3] / "jobs" / "demo" / "manifest.jsonl"


@pytest.fixture(scope="module")
def clip():
    return read_manifest(str(DEMO)).clips[0]


@pytest.mark.parametrize("code", CODES)
def test_an_error_of_a_clip_becomes_its_row_with_code_message_and_status(clip, code):
    row = error_row(clip, ClipError(code, "what to change"))
    assert (row["clip_id"], row["status"]) == (clip.clip_id, CODES[code][0])
    assert (row["error_code"], row["error_message"]) == (code, "what to change")


def test_any_other_error_is_a_bug_that_is_logged_and_fails_the_clip_alone(clip, caplog):
    try:
        {}["x"]
    except KeyError as error:
        row = error_row(clip, error, "features")
    assert (row["status"], row["error_code"]) == ("failed", "internal_error")
    assert row["error_message"].startswith("features: this is a bug")
    assert "Error" not in row["error_message"]
    assert clip.clip_id in caplog.text
    assert "KeyError" in caplog.text


def test_the_readme_of_the_jobs_has_every_column():
    assert column_table() in (DEMO.parents[1] / "README.md").read_text("utf-8")


def test_columns_of_an_earlier_version_are_read_under_their_names_of_now():
    assert with_names_of_now({"clip_id": "a", "attempt": 2}) == {"clip_id": "a", "worker_attempt": 2}
