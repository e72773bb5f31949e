"""A rendering job with a preset for editing: what it delivers, how it is judged, and what is handed over."""

import hashlib
import json
from pathlib import Path

import av
import pyarrow.parquet as pq
import pytest

from pipeline.media.file_faults import timecode_of
from pipeline.media.xmp import SOURCE_TYPE, read_mark
from tests import media
from tests.running import run_job

FAST = ("executor=serial", "render.mode=eager", "video.fps=24000/1001")


def manifest(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_text(
        json.dumps(
            {"clip_id": "a", "image": str(media.PORTRAIT), "audio": str(media.SPEECH), "timecode": "10:00:00:00"}
        )
        + "\n"
    )
    return f"manifest={path}"


@pytest.mark.slow
@pytest.mark.parametrize(("container", "marked"), [("mov", "xmp"), ("mxf", "comment")])
def test_a_clip_for_editors_is_judged_by_its_preset_and_handed_over(container, marked, tiny_model, tmp_path):
    out, to = tmp_path / "out", tmp_path / "to"
    job = ("render", manifest(tmp_path), f"model={tiny_model.path}", f"output={out}", *FAST)
    preset = ("video.preset=prores_422_hq", f"video.container={container}")
    done = run_job(*job, *preset)
    assert done.returncode == 0, done.stdout + done.stderr
    (row,) = pq.read_table(out / "clips.parquet").to_pylist()
    path = Path(row["uri"])
    assert (path.suffix, row["preset"], row["provenance"]) == (f".{container}", "prores_422_hq", marked)
    assert (row["qc_format_faults"], row["qc_frames_missing"], row["qc_av_end_ms"], row["qc_notes"]) == (0, 0, 0, [])
    assert row["qc_loudness_error_lu"] < 0.5
    seconds, frames = divmod(row["frames"], 24)
    assert (row["timecode"], row["timecode_after"]) == ("10:00:00:00", f"10:00:{seconds:02}:{frames:02}")
    assert row["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_mark(path)["digital_source_type"] == SOURCE_TYPE
    with av.open(path) as file:
        assert file.streams.video[0].codec_context.name == "prores"
        assert timecode_of(file) == "10:00:00:00"
        assert sum(1 for _ in file.decode(video=0)) == row["frames"]
    again = run_job(*job, *preset)
    assert "1 done before" in again.stdout
    handed = run_job("deliver", f"output={out}", f"to={to}", "only=all")
    assert handed.returncode == 0, handed.stderr
    assert (to / f"a.{container}").read_bytes() == path.read_bytes()
    orphan = path.with_name(f"b.0123456789ab.{container}")
    orphan.write_bytes(b"left by a dead worker")
    assert run_job("clean", f"output={out}").returncode == 0
    assert path.exists()
    assert not orphan.exists()


def test_a_preset_that_the_model_is_too_small_for_is_refused(tiny_model, tmp_path):
    job = ("render", manifest(tmp_path), f"model={tiny_model.path}", f"output={tmp_path / 'out'}", *FAST)
    refused = run_job(*job, "video.preset=dnxhr_hq", "qc.enabled=false")
    assert refused.returncode == 2
    assert "video.preset: dnxhr_hq needs pictures of at least 256 x 120 px, but the clip has 32 x 32" in refused.stderr


def test_speeds_of_earlier_versions_are_explained(tmp_path):
    refused = run_job("render", manifest(tmp_path), "video.preset=slow")
    assert refused.returncode == 2
    assert "video.preset: 'slow' is not allowed" in refused.stderr
    assert "speeds of an encoder, such as veryfast, are values of video.speed" in refused.stderr
