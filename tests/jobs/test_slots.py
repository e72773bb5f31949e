"""A programme of slots: rows with `frames` deliver exactly these, and say what was done to their audio."""

import json

import av
import pyarrow.parquet as pq
import pytest

from tests import media
from tests.running import run_job


def manifest(folder, *rows):
    path = folder / "m.jsonl"
    usual = {"image": str(media.PORTRAIT), "audio": str(media.SPEECH)}
    path.write_text("".join(json.dumps({"clip_id": f"c{n}"} | usual | row) + "\n" for n, row in enumerate(rows)))
    return f"manifest={path}"


def render(model, folder, fps, *rows):
    """The rows of a rendering job, with the number of frames that their files have and the length of the sound, s."""
    out = folder / "out"
    job = ("render", manifest(folder, *rows), f"model={model.path}", f"output={out}", f"video.fps={fps}")
    done = run_job(*job, "executor=serial", "render.mode=eager")
    assert (out / "clips.parquet").exists(), done.stdout + done.stderr
    made = sorted(pq.read_table(out / "clips.parquet").to_pylist(), key=lambda row: row["row"])
    for row in made:
        if row["status"] == "done":
            with av.open(row["uri"]) as file:
                row["decoded"] = sum(1 for _ in file.decode(video=0))
                sound = file.streams.audio[0]
                row["sound"] = float(sound.duration * sound.time_base)
    return done, made


@pytest.mark.slow
def test_a_programme_of_three_slots_has_their_frames_and_the_time_codes_that_follow(tiny_model, tmp_path):
    rows = (
        {"frames": 48, "on_length": "trim", "timecode": "10:00:00:00"},
        {"frames": 1, "on_length": "trim", "timecode": "10:00:02:00"},
        {"frames": 1001, "on_length": "pad", "timecode": "10:00:02:01"},
    )
    done, made = render(tiny_model, tmp_path, "24000/1001", *rows)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [(row["frames"], row["decoded"], row["qc_frames_missing"]) for row in made] == [
        (frames, frames, 0) for frames in (48, 1, 1001)
    ]
    assert [row["timecode_after"] for row in made] == ["10:00:02:00", "10:00:02:01", "10:00:43:18"]
    assert [row["input_notes"] for row in made] == [["length_trimmed"]] * 2 + [["length_padded"]]
    said = "the slot 1001 frames (41.750 s): the rest was filled with silence and idle motion"
    assert made[2]["input_messages"][0].endswith(said)
    for row in made:
        assert row["sound"] == pytest.approx(row["frames"] * 1001 / 24000, abs=1e-3)
        assert row["qc_notes"] == []
        assert row["qc_loudness_error_lu"] is None or row["qc_loudness_error_lu"] < 0.5
    assert made[0]["audio_duration"] == made[2]["audio_duration"] > 3
    assert made[2]["qc_silence_seconds"] < 4  # what was added is no hole in the recording


@pytest.mark.slow
@pytest.mark.parametrize(("fps", "frames"), [("25", 12), ("29.97", 31)])
def test_a_slot_at_other_rates_and_a_clip_that_does_not_fit(fps, frames, tiny_model, tmp_path):
    done, (cut, refused) = render(
        tiny_model, tmp_path, fps, {"frames": frames, "on_length": "trim"}, {"frames": frames}
    )
    assert done.returncode == 1
    assert (cut["frames"], cut["decoded"], cut["qc_frames_missing"], cut["on_length"]) == (frames, frames, 0, "trim")
    assert (refused["status"], refused["error_code"], refused["on_length"]) == ("rejected", "length_differs", "refuse")
    assert (refused["frames"], refused["frames_wanted"]) == (None, frames)
    (again,) = (json.loads(line) for line in (tmp_path / "out" / "failed.jsonl").read_text().splitlines())
    assert (again["frames"], again["on_length"]) == (frames, "refuse")  # it is a manifest


@pytest.mark.slow
def test_the_check_of_a_manifest_says_what_fits_its_slot(tiny_model, tmp_path):
    rows = ({"frames": 30, "on_length": "trim"}, {"frames": 30}, {"frames": 1000, "on_length": "pad"}, {})
    checked = run_job("render", manifest(tmp_path, *rows), f"model={tiny_model.path}", "executor=serial", "--check")
    assert checked.returncode == 1, checked.stderr
    assert "3 clips can be rendered, 1 cannot" in checked.stdout
    for said in ("c0  length_trimmed: ", "c1  length_differs: ", "c2  length_padded: "):
        assert said in checked.stdout
