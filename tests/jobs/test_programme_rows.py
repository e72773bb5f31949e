"""Rows of a programme that are no plain speech: with quality control, as a person would render them."""

import json
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.media.sound_reader import SoundReader
from tests import media
from tests.running import run_job

LENGTHS = (9_001, 8_500)
"""Samples of the spoken rows, at 16 kHz: none ends with a frame."""
FPS = Fraction(30_000, 1001)


def rendered(folder, model, rows, *arguments):
    """(the job, its rows by clip_id) of a programme."""
    samples, rate = media.speech()
    for number, length in enumerate(LENGTHS):
        (folder / f"row{number}.wav").write_bytes(media.wav(samples[:, :length], rate))
    lines = [json.dumps({"image": str(media.PORTRAIT), "programme": "Night show"} | row) for row in rows]
    (folder / "m.jsonl").write_text("\n".join(lines))
    job = ("render", f"manifest={folder / 'm.jsonl'}", f"model={model.path}", f"output={folder / 'out'}")
    done = run_job(*job, "executor=serial", "render.mode=eager", "video.fps=29.97", "qc.max_takes=1", *arguments)
    table = folder / "out" / "clips.parquet"
    assert table.exists(), done.stdout + done.stderr
    return done, {row["clip_id"]: row for row in pq.read_table(table).to_pylist()}


@pytest.mark.slow
def test_a_row_without_speech_goes_on_and_several_faces_are_refused(tiny_model, tmp_path):
    rows = [
        {"clip_id": "c0", "audio": "row0.wav", "order": 1},
        {"clip_id": "listens", "seconds": 0.71, "order": 2, "silence": "model"},
        {"clip_id": "c1", "audio": "row1.wav", "order": 3},
        {"clip_id": "two", "faces": [{"face": 1, "audio": "row0.wav"}, {"face": 2, "idle": True}], "frame": "full"},
    ]
    rows[3] |= {"programme": "Talk", "order": 1}
    _, found = rendered(tmp_path, tiny_model, rows)
    two = found.pop("two")
    assert (two["status"], two["error_code"]) == ("rejected", "value_invalid")
    assert "column programme: rows of a programme animate one face" in two["error_message"]
    assert {name: row["status"] for name, row in found.items()} == dict.fromkeys(("c0", "listens", "c1"), "done")
    seconds = Fraction(sum(LENGTHS), 16_000) + Fraction(71, 100)
    assert sum(row["frames"] for row in found.values()) == -int(-seconds * FPS // 1)
    assert found["listens"]["continues"] == f"c0.{found['c0']['fingerprint']}"
    assert found["c1"]["continues"] == f"listens.{found['listens']['fingerprint']}"
    for row in found.values():  # what was cut or added within a frame is no fault of a row
        assert (row["qc_notes"], row["qc_frames_missing"], row["qc_format_faults"]) == ([], 0, 0)
        assert row["qc_frame_gap_ms"] == 0
        assert abs(row["qc_av_end_ms"]) <= 1000 / FPS
        assert not {"frames_missing", "av_end_ms_high", "loudness_error_lu_high"} & set(row["qc_reasons"])


@pytest.mark.slow
def test_gaps_are_filled_so_that_the_programme_is_one_file(tiny_model, tmp_path):
    rows = [
        {"clip_id": "c0", "audio": "row0.wav", "timecode": "10:00:00;00"},
        {"clip_id": "c1", "audio": "row1.wav", "timecode": "10:00:01;00", "frames": 10, "on_length": "trim"},
        {"clip_id": "c2", "audio": "row1.wav", "timecode": "10:00:01;12"},
    ]
    _, found = rendered(tmp_path, tiny_model, rows, "programme.gaps=idle")
    lengths = {"c0": 30, "c1": 10, "c1-gap": 2, "c2": 16}
    assert {name: row["frames"] for name, row in found.items()} == lengths
    assert [row["clip_id"] for row in found.values() if row["gap_after"]] == ["c1-gap"]
    names = list(lengths)
    for before, name in pairwise(names):
        assert found[name]["continues"] == f"{before}.{found[before]['fingerprint']}"
        assert found[name]["timecode"] == found[before]["timecode_after"]
    assert found["c0"]["input_notes"] == ["length_padded"]
    assert (found["c1-gap"]["audio"], found["c1-gap"]["row"]) == (None, 4)
    for row in found.values():
        assert (row["status"], row["qc_notes"], row["qc_frames_missing"], row["qc_format_faults"]) == ("done", [], 0, 0)
    joined = run_job("join", f"output={tmp_path / 'out'}", f"to={tmp_path / 'joined'}", "only=all")
    assert joined.stdout.splitlines() == [f"{tmp_path / 'joined' / 'Night show.mp4'}: 4 clips, 58 frames"]
    sound = SoundReader((tmp_path / "joined" / "Night show.mp4").open("rb"))
    heard = np.concatenate(list(sound.pieces()), axis=1)[0]
    seconds = [round(at * sound.rate) for at in (0.7, 0.95, 0, 0.5)]  # after the speech of c0, and in it
    assert np.abs(heard[seconds[0] : seconds[1]]).max() < 1e-3 < np.abs(heard[seconds[2] : seconds[3]]).max()


@pytest.mark.slow
def test_sound_that_is_copied_may_end_within_a_frame_of_its_row(tiny_model, tmp_path):
    rows = [{"clip_id": f"c{number}", "audio": f"row{number}.wav", "order": number} for number in range(2)]
    rows.append({"clip_id": "listens", "seconds": 0.71, "order": 2, "programme": "Day show"})
    _, found = rendered(tmp_path, tiny_model, rows, "video.container=mov", "video.audio=copy")
    assert [found[name]["error_code"] for name in ("c0", "c1", "listens")] == [None, None, "audio_not_copied"]
    assert found["c0"]["frames"] + found["c1"]["frames"] == -int(-Fraction(sum(LENGTHS), 16_000) * FPS // 1)
    for number, length in enumerate(LENGTHS):
        row = found[f"c{number}"]
        with av.open(row["uri"]) as file:
            sound = file.streams.audio[0]
            assert (sound.codec_context.name, sound.duration) == ("pcm_s16le", length)
        assert (row["qc_notes"], row["qc_frames_missing"], row["qc_format_faults"]) == ([], 0, 0)
    joined = run_job("join", f"output={tmp_path / 'out'}", f"to={tmp_path / 'joined'}", "only=all")
    assert "Day show was not joined: listens (not rendered (rejected))" in joined.stdout
    with av.open(tmp_path / "joined" / "Night show.mov") as file:
        sound = file.streams.audio[0]
        frames = found["c0"]["frames"] + found["c1"]["frames"]
        assert (sound.codec_context.name, sound.rate) == ("pcm_s24le", 48_000)
        assert sound.duration == round(frames / FPS * 48_000)


@pytest.mark.slow
def test_a_row_that_fails_before_it_moves_lets_the_next_one_begin(tiny_model, tmp_path):
    """No mouth is found in what an untrained model makes, so it cannot rest; the clip has no slot to keep then."""
    rows = [
        {"clip_id": "listens", "seconds": 0.71, "order": 1},
        {"clip_id": "c0", "audio": "row0.wav", "order": 2},
    ]
    _, found = rendered(tmp_path, tiny_model, rows, "qc.enabled=false", "render.slots=1")
    assert (found["listens"]["status"], found["listens"]["error_code"]) == ("rejected", "mouth_not_found")
    assert (found["c0"]["status"], found["c0"]["input_notes"]) == ("done", ["programme_broken"])
