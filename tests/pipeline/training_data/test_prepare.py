"""Videos with known faults through the stage: what is accepted, and the one reason for which the rest is dropped."""

import io
import json
from itertools import pairwise

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

from pipeline.common.limits import Limits
from pipeline.common.options import SettingError
from pipeline.common.stage import started
from pipeline.face.detector import FaceDetector
from pipeline.face.head_pose import head_pose
from pipeline.measure.syncnet import SyncNet
from pipeline.storage.uris import join
from pipeline.training_data.cuts import with_cuts
from pipeline.training_data.offset import believable
from pipeline.training_data.places import Places
from pipeline.training_data.reasons import REASONS, Dropped
from pipeline.training_data.settings import ClipSettings
from pipeline.training_data.shards import Shards
from pipeline.training_data.sound import Sound
from pipeline.training_data.source_video import SourceVideo
from pipeline.training_data.stage import PrepareStage
from pipeline.training_data.videos import Video
from tests import media, reels, synthetic_videos

pytestmark = pytest.mark.slow  # each test makes a video and takes it apart

RATE = synthetic_videos.RATE

SHORT = 30
"""Frames of the shorter video."""


def prepare(path, output, fingerprint="f", run="r", **settings):
    """Rows of one video, and its samples or None."""
    stage = started(PrepareStage(Places(str(output), run), ClipSettings(**(reels.SMALL | settings)), Limits()))
    (sidecar,) = list(stage.process([Video("film-1", str(path), "anna", "en", "happy", fingerprint=fingerprint)]))
    assert sidecar["status"] in ("done", "dropped", "failed")
    for row in sidecar["rows"]:
        assert (row["status"] == "accepted") == (row["reason"] == "")
        assert row["reason"] in REASONS or row["status"] == "accepted"
    accepted = sum(row["status"] == "accepted" for row in sidecar["rows"])
    shards = Shards(join(str(output), "clips")) if accepted else None
    assert len(shards or ()) == accepted
    return sidecar["rows"], shards


def with_curves(path, output, curves, **settings):
    """Rows and samples of a video whose frames somebody knows."""
    stage = started(PrepareStage(Places(str(output), "r"), ClipSettings(**(reels.SMALL | settings)), Limits()))
    (sidecar,) = list(stage.process([Video("film-1", str(path), "anna", curves=str(curves), fingerprint="f")]))
    return sidecar


def reasons(rows):
    return [row["reason"] for row in rows]


def spoken(seconds=3.2):
    """A voice and the pictures of who speaks it."""
    wave = synthetic_videos.speech(seconds)
    return wave, list(reels.speaker(wave))


@pytest.fixture(scope="module")
def voice():
    return spoken()


@pytest.fixture(scope="module")
def short(voice):
    """The first of it, which is long enough for one sample."""
    wave, pictures = voice
    return wave[: SHORT * 640], pictures[:SHORT]


def tiled(rows, frames):
    """Whether the candidates are the whole video, one after the other."""
    edges = [(round(row["start"] * 25), round(row["end"] * 25)) for row in rows]
    follow = all(one[1] == other[0] for one, other in pairwise(edges))
    return follow and (edges[0][0], edges[-1][1]) == (0, frames)


# --- Shots -----------------------------------------------------------------------------------------------------


def cuts(path):
    return [number for number, _, begins in with_cuts(SourceVideo(path, Limits()).pictures()) if begins]


def test_a_hard_cut_is_found_at_its_frame_and_makes_two_samples(voice, tmp_path):
    wave, pictures = voice
    # The same person farther to the right, another wall: as from a second camera.
    other = np.ascontiguousarray(reels.canvas()[:, ::-1] // 2)
    shots = [
        reels.placed(p, 20, 16, 256, reels.canvas()) if n < 37 else reels.placed(p, 110, 24, 256, other)
        for n, p in enumerate(pictures)
    ]
    path = reels.write(tmp_path / "a.mp4", shots, wave)
    assert cuts(path) == [0, 37]
    rows, shards = prepare(path, tmp_path / "out")
    assert [(row["start"], row["end"]) for row in rows] == [(0.0, 37 / 25), (37 / 25, 80 / 25)]
    assert reasons(rows) == ["", ""]
    assert [row["clip_id"] for row in shards.rows] == ["film-1-000000", "film-1-000037"]


def test_a_cut_to_a_closer_frame_of_the_same_scene_is_found(voice, tmp_path):
    wide = [reels.placed(p, 64, 16, 256, reels.canvas()) for p in voice[1][:60]]
    close = [np.asarray(Image.fromarray(p).resize((384, 288), box=(44, 33, 340, 255))) for p in wide[30:]]
    assert cuts(reels.write(tmp_path / "a.mp4", wide[:30] + close)) == [0, 30]


def test_a_flash_a_fast_turn_and_a_pan_are_no_cuts(voice, tmp_path):
    pictures = voice[1][:60]
    lit = [np.clip(p.astype(int) + 90 * (30 <= n < 33), 0, 255).astype(np.uint8) for n, p in enumerate(pictures)]
    assert cuts(reels.write(tmp_path / "flash.mp4", lit)) == [0]
    # There and back by half a face within 0.4 s: no head is as fast.
    way = np.interp(np.arange(60), [20, 30, 34, 44], [0, 100, 100, 0]).astype(int)
    fast = [reels.placed(p, 10 + way[n], 16, 256, reels.canvas()) for n, p in enumerate(pictures)]
    assert cuts(reels.write(tmp_path / "turn.mp4", fast)) == [0]
    wall = np.random.default_rng(0).integers(60, 200, (6, 40, 3), dtype=np.uint8)
    wall = np.asarray(Image.fromarray(wall).resize((1600, 256), Image.Resampling.BICUBIC))
    pan = [np.ascontiguousarray(wall[:, 12 * n : 12 * n + 384]) for n in range(60)]
    assert cuts(reels.write(tmp_path / "pan.mp4", pan)) == [0]


def test_a_longer_shot_is_cut_into_equal_parts(voice, tmp_path):
    wave, pictures = voice
    path = reels.write(tmp_path / "a.mp4", pictures, wave)
    rows, shards = prepare(path, tmp_path / "out", min_seconds=1, max_seconds=2)
    assert [(round(row["start"] * 25), round(row["end"] * 25)) for row in rows] == [(0, 40), (40, 80)]
    assert shards.frames.tolist() == [40, 40]


def test_what_is_shorter_than_a_sample_is_too_short(voice, tmp_path):
    wave, pictures = voice
    path = reels.write(tmp_path / "a.mp4", pictures, wave)
    rows, shards = prepare(path, tmp_path / "out", min_seconds=4, max_seconds=15)
    assert reasons(rows) == ["too_short"]
    assert shards is None
    assert "3.20 s" in rows[0]["found"]


# --- A sample --------------------------------------------------------------------------------------------------


def test_one_crop_serves_the_whole_sample_and_the_head_moves_inside_it(voice, tmp_path):
    wave, pictures = voice
    way = np.linspace(0, 60, len(pictures)).round().astype(int)
    moving = [reels.placed(p, 30 + int(x), 16, 256, reels.canvas()) for x, p in zip(way, pictures, strict=True)]
    path = reels.write(tmp_path / "a.mp4", moving, wave)
    (row,), shards = prepare(path, tmp_path / "out", size=256)
    sample = shards.read(0, "pose", "components", "video", "wave", "crop_box", "size", "av_offset_ms")
    left, top, right, bottom = sample["crop_box"]
    side = right - left
    assert side == pytest.approx(bottom - top, abs=0.02)
    assert side == pytest.approx(1.6 * row["face_px"], rel=0.1)
    # It moves by 60 px in the source; a portrait that sways adds up to 5.
    assert (sample["pose"][-1, 3] - sample["pose"][0, 3]) * side == pytest.approx(60, abs=6)
    assert np.ptp(sample["pose"][:, 4]) * side < 12
    # The crop is centred on what the face covers in all frames.
    assert abs(float(sample["pose"][:, 3].max() + sample["pose"][:, 3].min()) / 2) < 0.05

    frames = reels.decoded(sample["video"])
    assert frames.shape == (80, 256, 256, 3)
    detector = FaceDetector()
    for number in (0, 40, 79):
        # What was computed from the source is what is seen in the crop.
        face = detector.detect(frames[number])[0]
        apart = np.abs(head_pose(face.landmarks, 256) - sample["pose"][number])
        assert apart[:3].max() < 0.07  # radians: FaceMesh sees another resampling
        assert apart[3:].max() < 0.01
        for box, points in zip(sample["components"][number], ((33, 133), (263, 362), (61, 291, 13, 14)), strict=True):
            places = face.landmarks[list(points), :2] / 256
            assert (places > box[:2] - 0.01).all()
            assert (places < box[2:] + 0.01).all()
    assert sample["components"].min() >= 0
    assert sample["components"].max() <= 1
    assert sample["pose"].dtype == sample["components"].dtype == np.float32
    assert sample["size"] == 256


def test_the_sample_is_what_the_schema_says(voice, tmp_path):
    wave, pictures = voice
    path = reels.write(tmp_path / "a.mp4", pictures, wave)
    _, shards = prepare(path, tmp_path / "out")
    row = shards.rows[0]
    assert (row["speaker"], row["language"], row["emotion"], row["split"]) == ("anna", "en", "happy", "train")
    assert (row["start"], row["end"], row["fps"], row["frames"]) == (0.0, 3.2, 25.0, 80)
    sample = shards.read(0, "wave", "video", "pose", "components", "av_offset_ms", "av_confidence")
    assert (sample["wave"].dtype, sample["wave"].shape) == (np.int16, (80 * 640,))
    assert (sample["pose"].shape, sample["components"].shape) == ((80, 6), (80, 3, 4))
    assert np.corrcoef(sample["wave"].astype(float), wave[: 80 * 640])[0, 1] > 0.98  # in step, to the sample
    assert sample["av_offset_ms"] == pytest.approx(0, abs=20)
    assert sample["av_confidence"] > 0.8
    with av.open(io.BytesIO(sample["video"])) as file:
        assert len(file.streams) == 1
        stream = file.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert (stream.width, stream.height, stream.average_rate) == (64, 64, 25)
        keys = [number for number, frame in enumerate(file.decode(stream)) if frame.key_frame]
        assert stream.codec_context.colorspace == 1  # BT.709
    assert keys == list(range(0, 80, 8))


def test_30_frames_per_second_give_25_frames_per_second_in_step_with_the_sound(tmp_path):
    wave = synthetic_videos.speech(3.2)
    opening = np.clip((synthetic_videos.levels((wave * 2**15).astype(np.int16), 30, 96) + 50) / 35, 0, 1)
    shapes = synthetic_videos.mouths(256)
    pictures = [shapes[int(one * (synthetic_videos.SHADES - 1))] for one in opening]
    path = reels.write(tmp_path / "a.mp4", pictures, wave, fps=30)
    rows, shards = prepare(path, tmp_path / "out")
    assert shards.frames.tolist() == [80]
    assert rows[0]["source_fps"] == 25.0
    assert rows[0]["av_offset_ms"] == pytest.approx(0, abs=20)


# --- Reasons ---------------------------------------------------------------------------------------------------


def test_two_faces_side_by_side_are_dropped_and_a_small_one_behind_is_not(short, tmp_path):
    wave, pictures = short
    room = reels.canvas(288, 512)
    pair = [reels.placed(p, 256, 16, 256, reels.placed(p, 0, 16, 256, room)) for p in pictures]
    rows, _ = prepare(reels.write(tmp_path / "pair.mp4", pair, wave), tmp_path / "pair")
    assert reasons(rows) == ["several_faces"]
    behind = [reels.placed(p, 256, 16, 256, reels.placed(p, 40, 60, 100, room)) for p in pictures]
    rows, _ = prepare(reels.write(tmp_path / "behind.mp4", behind, wave), tmp_path / "behind")
    assert reasons(rows) == [""]
    assert rows[0]["crop_box"][0] > 150  # around the large one


def test_a_small_a_blurred_and_a_cut_off_face_are_dropped(short, tmp_path):
    wave, pictures = short
    path = reels.write(tmp_path / "a.mp4", pictures, wave)
    rows, _ = prepare(path, tmp_path / "small", min_face=200)
    assert reasons(rows) == ["face_too_small"]
    soft = [np.asarray(Image.fromarray(p).filter(ImageFilter.GaussianBlur(2.5))) for p in pictures]
    rows, _ = prepare(reels.write(tmp_path / "soft.mp4", soft, wave), tmp_path / "soft")
    assert reasons(rows) == ["blurred"]
    low = [reels.placed(p, 60, 110, 256, reels.canvas(288, 384)) for p in pictures]
    rows, _ = prepare(reels.write(tmp_path / "low.mp4", low, wave), tmp_path / "low")
    assert reasons(rows) == ["face_cut_off"]


def test_a_turn_beyond_the_limit_is_dropped(voice, tmp_path):
    # A head that really turns cannot be made of a photograph: the limit is set below what this one shows.
    wave, pictures = voice
    rows, _ = prepare(reels.write(tmp_path / "a.mp4", pictures, wave), tmp_path / "out", max_yaw=0.5)
    assert reasons(rows) == ["yaw_too_large"]
    assert 0.5 < rows[0]["yaw_deg"] < 8


def test_a_head_that_crosses_the_room_moves_too_far(voice, tmp_path):
    wave, pictures = voice
    way = np.linspace(0, 380, len(pictures)).astype(int)
    crossing = [reels.placed(p, int(x), 16, 256, reels.canvas(288, 640)) for x, p in zip(way, pictures, strict=True)]
    rows, _ = prepare(reels.write(tmp_path / "a.mp4", crossing, wave), tmp_path / "out")
    assert reasons(rows) == ["moves_too_far"]


def test_a_shot_without_a_face_and_a_face_that_leaves_are_told_apart(voice, tmp_path):
    wave, pictures = voice
    empty = [reels.canvas()] * SHORT
    rows, _ = prepare(reels.write(tmp_path / "empty.mp4", empty, wave[: SHORT * 640]), tmp_path / "empty")
    assert reasons(rows) == ["no_face"]
    wall = reels.canvas(256, 256)
    share = np.interp(np.arange(80), [40, 52], [0, 1])  # it fades into the wall: no cut
    leaving = [(p * (1 - s) + wall * s).astype(np.uint8) for p, s in zip(pictures, share, strict=True)]
    rows, shards = prepare(reels.write(tmp_path / "leaving.mp4", leaving, wave), tmp_path / "leaving")
    assert reasons(rows) == ["", "face_lost"]
    assert tiled(rows, 80)
    assert 40 <= shards.frames[0] <= 52


def test_a_few_frames_per_second_are_not_repeated_into_a_sample(tmp_path):
    wave = synthetic_videos.speech(3.2)
    pictures = [p for n, p in enumerate(reels.speaker(wave)) if n % 2 == 0]
    path = reels.write(
        tmp_path / "a.mp4", pictures, wave, times=[synthetic_videos.Fraction(2 * n, 25) for n in range(40)]
    )
    rows, _ = prepare(path, tmp_path / "out")
    assert reasons(rows) == ["few_frames"]
    assert rows[0]["source_fps"] == pytest.approx(12.5, abs=0.3)


def test_without_sound_with_silence_and_with_too_little_sound_nothing_is_accepted(voice, short, tmp_path):
    wave, pictures = short
    rows, _ = prepare(reels.write(tmp_path / "mute.mp4", pictures), tmp_path / "mute")
    assert reasons(rows) == ["no_audio"]
    rows, _ = prepare(reels.write(tmp_path / "silent.mp4", pictures, 0 * wave), tmp_path / "silent")
    assert reasons(rows) == ["silent"]
    rows, _ = prepare(reels.write(tmp_path / "some.mp4", pictures, wave[:9600]), tmp_path / "some", min_seconds=1)
    assert reasons(rows) == ["too_short", "no_audio"]
    assert "from 0.00 to 0.6" in rows[1]["found"]


def test_what_is_heard_is_kept_where_the_sound_begins_late_has_a_hole_and_ends_early(voice, tmp_path):
    wave, pictures = voice
    path = reels.write(tmp_path / "a.mp4", pictures, wave[8000:48_000], sound_at=0.5, hole=(1.1, 1.4))
    rows, shards = prepare(path, tmp_path / "out", min_seconds=1, max_seconds=15)
    assert reasons(rows) == ["no_audio", "", "no_audio", "", "no_audio"]
    assert tiled(rows, 80)
    ends = [row["end"] for row in rows]
    np.testing.assert_allclose(ends, [0.5, 1.6, 1.9, 3.0, 3.2], atol=0.09)  # frames of AAC, and its run-in
    assert "no audio for 0.4" in rows[0]["found"]
    assert f"from {rows[3]['start']:.1f}" in rows[0]["found"]
    assert all(row["av_offset_ms"] is None or abs(row["av_offset_ms"]) < 40 for row in rows)
    for number, row in enumerate(row for row in rows if not row["reason"]):
        heard, said = shards.read(number, "wave")["wave"], wave[round(row["start"] * RATE) : round(row["end"] * RATE)]
        assert np.corrcoef(heard[2000:-2000], said[2000:-2000])[0, 1] > 0.95


def test_speech_in_opposite_phases_and_in_a_second_stream_is_heard(short, tmp_path):
    wave, pictures = short
    path = reels.write(tmp_path / "opposite.mp4", pictures, np.stack([wave, -wave]))
    rows, shards = prepare(path, tmp_path / "opposite")
    assert reasons(rows) == [""]
    assert "cancel each other" in rows[0]["found"]
    tone = media.tone(seconds=len(wave) / RATE)[0]
    path = reels.write(tmp_path / "second.mkv", pictures, wave, aside=tone)
    second, other = prepare(path, tmp_path / "second")
    assert reasons(second) == [""]
    assert "number 2 (default) was used" in second[0]["found"]
    for found in (shards, other):
        heard = found.read(0, "wave")["wave"][2000:-2000].astype(float)
        assert abs(np.corrcoef(heard, wave[2000 : len(heard) + 2000])[0, 1]) > 0.95


def test_a_short_hole_in_the_sound_is_silence_in_the_sample():
    sound = Sound(np.zeros(2 * RATE, np.int16), [(0.08, 0.6), (0.68, 1.2), (1.4, 2.0)])
    assert [bool(one) for one in sound.heard(0, 52)] == [n not in range(30, 35) for n in range(52)]
    assert not sound.heard(55, 60).any()
    assert sound.describe() == "the audio lasts from 0.08 to 0.60 s and from 0.68 to 1.20 s and from 1.40 to 2.00 s"


@pytest.mark.parametrize("shift", [0.2, -0.2])
def test_sound_that_is_200_ms_off_is_found_where_lips_follow_it(shift, tmp_path):
    wave = synthetic_videos.speech(5.0)
    later = np.roll(wave, round(shift * 16_000))
    rows, _ = prepare(reels.write(tmp_path / "a.mp4", reels.speaker(wave), later), tmp_path / "out")
    assert reasons(rows) == ["av_offset_too_large"]
    assert rows[0]["av_offset_ms"] == pytest.approx(-1000 * shift, abs=40)  # positive: the picture is late
    assert rows[0]["av_method"] == "lips"


def test_an_offset_that_cannot_be_believed_is_not_told(tmp_path):
    wave = synthetic_videos.speech(4.0)
    still = np.zeros(100, np.float32)
    path = reels.write(tmp_path / "a.mp4", synthetic_videos.SyntheticVideo(wave=wave, opening=still).pictures(), wave)
    rows, shards = prepare(path, tmp_path / "out")
    assert reasons(rows) == [""]
    assert (rows[0]["av_method"], rows[0]["av_offset_ms"]) == (None, None)
    assert shards.read(0, "av_offset_ms") == {"av_offset_ms": None}


def test_a_short_sample_needs_more_evidence_as_chance_falls_with_the_root_of_the_length():
    assert believable(0.55, 125) == believable(0.55, 375) == 0.55
    assert believable(0.55, 75) == pytest.approx(0.55 * (5 / 3) ** 0.5)


@pytest.mark.slow
def test_with_syncnets_weights_the_offset_is_syncnets(voice, tmp_path):
    # Its real weights are not ours to ship: random ones measure nothing, and show what is done with the answer.
    torch.manual_seed(0)
    torch.save(SyncNet().state_dict(), tmp_path / "syncnet.model")
    wave, pictures = voice[0][: 45 * 640], voice[1][:45]  # SyncNet needs more than a second
    path = reels.write(tmp_path / "a.mp4", pictures, wave)
    given = {"syncnet": str(tmp_path / "syncnet.model")}
    rows, _ = prepare(path, tmp_path / "unsure", **given)
    assert (reasons(rows), rows[0]["av_method"]) == ([""], None)
    assert rows[0]["av_confidence"] < 3
    rows, _ = prepare(path, tmp_path / "sure", **given, min_syncnet_confidence=0, max_av_offset_ms=10)
    assert rows[0]["av_method"] == "syncnet"
    assert (reasons(rows) == ["av_offset_too_large"]) == (abs(rows[0]["av_offset_ms"]) > 10)


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", "input_empty"), (b"no film", "unreadable"), (None, "input_not_found")],
)
def test_a_file_that_cannot_be_used_has_one_row_that_says_why(content, code, tmp_path):
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    rows, _ = prepare(path, tmp_path / "out")
    assert reasons(rows) == [code]
    assert len(rows[0]["found"]) > 20
    # Only what another try may change is tried again.
    assert (Places(str(tmp_path / "out")).read("film-1") is None) == (code == "input_not_found")


# --- The output folder -----------------------------------------------------------------------------------------


def test_prepared_twice_gives_the_same_rows_and_the_same_bytes_on_disk_and_object_storage(short, output, tmp_path):
    wave, pictures = short
    path = reels.write(tmp_path / "a.mp4", pictures, wave)
    first, one = prepare(path, output)
    second, other = prepare(path, output, fingerprint="g")
    assert first == second
    assert one.rows == other.rows
    columns = ("video", "wave", "pose", "components", "crop_box")
    before, after = one.read(0, *columns), other.read(0, *columns)
    assert all(np.array_equal(before[name], after[name]) for name in columns)
    assert Places(output).read("film-1")["fingerprint"] == "g"


def test_what_is_done_with_the_same_fingerprint_is_not_done_again(short, tmp_path):
    wave, pictures = short
    path = reels.write(tmp_path / "a.mp4", pictures, wave)
    rows, _ = prepare(path, tmp_path / "out")
    path.unlink()
    assert prepare(path, tmp_path / "out")[0] == rows
    assert reasons(prepare(path, tmp_path / "out", fingerprint="other")[0]) == ["input_not_found"]


def test_a_video_that_loses_its_samples_leaves_no_shard_behind(short, tmp_path):
    wave, pictures = short
    path = reels.write(tmp_path / "a.mp4", pictures, wave)
    places = Places(str(tmp_path / "out"))
    prepare(path, tmp_path / "out")
    (tmp_path / "out/latents").mkdir()
    (tmp_path / "out/latents/film-1.parquet").write_bytes(b"of the samples before")
    prepare(path, tmp_path / "out", fingerprint="g", min_face=200)
    assert not list((tmp_path / "out/clips").iterdir())
    assert not list((tmp_path / "out/latents").iterdir())
    assert reasons(places.read("film-1")["rows"]) == ["face_too_small"]
    prepare(path, tmp_path / "out", fingerprint="h")
    path.write_bytes(b"replaced by something else")
    prepare(path, tmp_path / "out", fingerprint="i")
    assert not list((tmp_path / "out/clips").iterdir())


def test_a_video_that_took_two_workers_along_is_left_out_in_this_run(short, tmp_path):
    wave, pictures = short
    path = reels.write(tmp_path / "a.mp4", pictures, wave)
    places = Places(str(tmp_path / "out"), "r")
    for _ in range(2):
        places.begin("film-1", "clips")  # and the worker dies
    rows, _ = prepare(path, tmp_path / "out")
    assert reasons(rows) == ["worker_died"]
    assert json.loads((tmp_path / "out/done/film-1.json").read_text())["error_code"] == "worker_died"
    assert not list((tmp_path / "out/attempts").iterdir())
    places.forget("film-1")
    rows, _ = prepare(path, tmp_path / "out", run="another")
    assert reasons(rows) == [""]


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(SettingError, match="max_seconds"):
        ClipSettings(min_seconds=5, max_seconds=8)
    with pytest.raises(SettingError, match="size"):
        ClipSettings(size=130)
    with pytest.raises(KeyError):
        Dropped("no_such_code", "text")


# --- What is known of the frames -------------------------------------------------------------------------------


@pytest.mark.slow
def test_curves_are_cut_with_the_samples(short, tmp_path):
    wave, pictures = short
    path = reels.write(tmp_path / "film.mp4", pictures, wave)
    frames = len(pictures)
    known = np.stack([np.arange(frames), np.full(frames, 0.5)], axis=1).astype(np.float64)
    np.save(tmp_path / "known.npy", known)
    sidecar = with_curves(path, tmp_path / "out", tmp_path / "known.npy")
    assert sidecar["status"] == "done"
    shards = Shards(join(str(tmp_path / "out"), "clips"))
    for sample, row in enumerate(shards.rows):
        first = round(row["start"] * 25)
        assert np.array_equal(shards.read(sample, "curves")["curves"], known[first : first + row["frames"]])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("known", "code", "said"),
    [
        (None, "input_not_found", "known.npy"),
        (b"yaw,pitch", "curves_unreadable", "numpy.save"),
        (np.zeros((200, 2), np.int64), "curves_unreadable", "int64"),
        (np.full((200, 2), np.nan), "curves_unreadable", "NaN"),
        (np.zeros((10, 2)), "curves_unreadable", "10 rows"),
    ],
)
def test_curves_that_do_not_fit_drop_their_video(short, tmp_path, known, code, said):
    wave, pictures = short
    path = reels.write(tmp_path / "film.mp4", pictures, wave)
    if isinstance(known, bytes):
        (tmp_path / "known.npy").write_bytes(known)
    elif known is not None:
        np.save(tmp_path / "known.npy", known)
    sidecar = with_curves(path, tmp_path / "out", tmp_path / "known.npy")
    assert (sidecar["status"], sidecar["error_code"]) == ("failed", code)
    assert said in sidecar["rows"][0]["found"]
