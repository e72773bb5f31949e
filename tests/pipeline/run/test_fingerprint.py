"""The fingerprint stays as long as the same video would come out: across versions of this project too."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import s3fs

from models import FloatConfig, ModelFolder
from pipeline.common.errors import StorageError
from pipeline.common.limits import Limits
from pipeline.manifest.reader import read_manifest
from pipeline.media.presets import PRESETS
from pipeline.media.settings import VideoSettings
from pipeline.render.settings import EngineSettings, FeatureSettings
from pipeline.run.fingerprint import (
    FILE_PARTS,
    Source,
    clip_parts,
    fingerprint,
    identify,
    identify_sound,
    job_parts,
    joined,
)
from pipeline.storage import objects
from tests.tiny import CONFIG

POSED = replace(CONFIG, pose="head")


def model(config=None):
    return ModelFolder(Path("x"), "name", "licence", False, config or FloatConfig(), (), {}, "0" * 64)


def marks(tmp_path, *rows, config=None, solver="auto", pose="sha256:3"):
    """Fingerprint of each row of a manifest, whose files have fixed identities."""
    lines = [
        json.dumps({"clip_id": f"c{i}", "image": "/i.png", "audio": "/a.wav", **row}) for i, row in enumerate(rows)
    ]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    clips = read_manifest(str(tmp_path / "m.jsonl"), None, config, solver=solver).clips
    assert len(clips) == len(rows)
    job = job_parts(model(config), FeatureSettings(), EngineSettings(solver=solver), VideoSettings())
    files = Source("sha256:1", 1), Source("sha256:2", 2)
    return [
        fingerprint(clip_parts(clip, *files, job, Source(pose, 3) if clip.pose is not None else None)) for clip in clips
    ]


def test_fingerprints_are_those_of_the_version_before_variants(tmp_path):
    """Written down then: whoever rendered with it finds his clips done."""
    assert marks(tmp_path, {"emotion": "happy"}, {}) == ["54c5eeb3cc2c", "b9371ed3f61d"]


def test_a_sampler_that_is_named_is_the_one_that_auto_takes(tmp_path):
    assert marks(tmp_path, {}) == marks(tmp_path, {}, solver="euler") == marks(tmp_path, {"nfe": 10})
    assert marks(tmp_path, {}) != marks(tmp_path, {}, solver="heun")
    diffusion = replace(CONFIG, objective="x0")
    assert marks(tmp_path, {}, config=diffusion) == marks(tmp_path, {"nfe": 50}, config=diffusion, solver="ddim")


def test_poses_count_by_their_contents_and_not_by_their_name(tmp_path):
    posed = marks(tmp_path, {"pose": "/a.npy"}, {"pose": "/b.npy"}, config=POSED)
    assert posed[0] == posed[1]
    assert marks(tmp_path, {"pose": "/a.npy"}, config=POSED, pose="sha256:4") != posed[:1]


def test_spans_of_poses_count_and_their_fade_only_with_them(tmp_path):
    span = {"start": 1, "end": 2, "yaw": 5}
    file, listed, slow = ({"pose": "/a.npy"}, {"pose": [{"pose": "/a.npy"}]}, {"pose": "/a.npy", "pose_fade": 1})
    turned = [{"pose": [{"pose": "/a.npy"}, span | more]} for more in ({}, {"yaw": 6}, {"end": 3})]
    found = marks(tmp_path, file, listed, slow, *turned, {**turned[0], "pose_fade": 1}, config=POSED)
    assert found[0] == found[1] == found[2]
    assert len(set(found)) == 5


def test_another_face_of_the_same_image_is_another_clip_and_the_largest_one_is_as_before(tmp_path):
    usual, largest, second, point = marks(tmp_path, {}, {"face": "largest"}, {"face": 2}, {"face": "640,360"})
    assert usual == largest
    assert len({usual, second, point}) == 3
    assert marks(tmp_path, {"crop": "none"}) == marks(tmp_path, {"crop": "none", "face": ""})


def test_a_slot_counts_and_so_does_what_happens_in_it_but_nothing_without_frames(tmp_path):
    usual, none, slot, padded, longer = marks(
        tmp_path, {}, {"on_length": "pad"}, {"frames": 48}, {"frames": 48, "on_length": "pad"}, {"frames": 49}
    )
    assert usual == none
    assert len({usual, slot, padded, longer}) == 4


def test_an_audio_stream_that_is_chosen_is_another_clip(tmp_path):
    usual, none, second, german = marks(tmp_path, {}, {"audio_stream": ""}, {"audio_stream": 2}, {"audio_stream": "de"})
    assert usual == none
    assert len({usual, second, german}) == 3


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("23.976", "24000/1001", True), ("23.976", "2997/125", False), ("29.97", "30000/1001", True), ("25", "25", True)],
)
def test_a_rounded_broadcast_rate_is_the_rate_that_is_rendered(one, other, same):
    of = [job_parts(model(), FeatureSettings(), EngineSettings(), VideoSettings(fps=fps)) for fps in (one, other)]
    assert (fingerprint(of[0]) == fingerprint(of[1])) == same


@pytest.mark.parametrize("fps", ["25", "25.0", "30", "12.5", "30000/1001", "59.5"])
def test_a_rate_that_stays_what_it_is_keeps_its_fingerprint(fps):
    assert job_parts(model(), FeatureSettings(), EngineSettings(), VideoSettings(fps=fps))["video.fps"] == fps


def framed(tmp_path, own=None, **video):
    """Fingerprint of a clip whose row says this frame, with these settings."""
    row = {"clip_id": "a", "image": "/i.png", "audio": "/a.wav"} | ({} if own is None else {"frame": own})
    (tmp_path / "m.jsonl").write_text(json.dumps(row))
    settings = VideoSettings(**video)
    (clip,) = read_manifest(str(tmp_path / "m.jsonl"), video=settings).clips
    job = job_parts(model(), FeatureSettings(), EngineSettings(), settings)
    return fingerprint(clip_parts(clip, Source("sha256:1", 1), Source("sha256:2", 2), job))


def test_settings_of_full_frames_count_for_full_frames_alone(tmp_path):
    square = framed(tmp_path)
    assert framed(tmp_path, "crop", frame="full", width=640, hold_rim=0.5) == square
    assert framed(tmp_path, width=640, height=360, fit="pad") == square
    full = framed(tmp_path, "full")
    assert full != square
    assert framed(tmp_path, frame="full") == full
    others = [{"width": 640}, {"height": 640}, {"hold_rim": 0.5}, {"width": 640, "height": 640}]
    others.append({"width": 640, "height": 640, "fit": "pad"})
    found = {framed(tmp_path, "full", **settings) for settings in others}
    assert len(found | {full, square}) == len(others) + 2


def of_preset(tmp_path, row, **video):
    """Fingerprint of a row, read for a job with these settings."""
    (tmp_path / "m.jsonl").write_text(json.dumps({"clip_id": "a", "image": "/i.png", "audio": "/a.wav"} | row))
    settings = VideoSettings(**video)
    (clip,) = read_manifest(str(tmp_path / "m.jsonl"), video=settings).clips
    own = clip_parts(clip, Source("sha256:1", 1), Source("sha256:2", 2), {})
    return fingerprint(joined(own, job_parts(model(), FeatureSettings(), EngineSettings(), settings)))


def test_a_row_with_a_preset_is_what_a_job_with_that_preset_makes(tmp_path):
    found = {name: of_preset(tmp_path, {}, preset=name) for name in PRESETS}
    assert len(set(found.values())) == len(PRESETS)
    for name, mark in found.items():
        assert of_preset(tmp_path, {"preset": name}) == mark
        assert of_preset(tmp_path, {"preset": name}, preset="hevc") == mark
    assert {part for name in PRESETS for part in VideoSettings(preset=name).file_parts} == FILE_PARTS


def test_titles_change_no_clip_and_tracks_do_by_their_contents(tmp_path):
    assert len(set(marks(tmp_path, {}, {"title": "A"}, {"audio_tracks": []}))) == 1
    (tmp_path / "m.jsonl").write_text(json.dumps({"image": "/i.png", "audio": "/a.wav", "audio_tracks": ["/m.wav"]}))
    (clip,) = read_manifest(str(tmp_path / "m.jsonl")).clips
    named = replace(clip, audio_tracks=(replace(clip.audio_tracks[0], title="Music"),))
    elsewhere = replace(clip, audio_tracks=(replace(clip.audio_tracks[0], uri="/other.wav"),))
    files, track = (Source("sha256:1", 1), Source("sha256:2", 2), {}), [Source("sha256:3", 3)]
    one, other, titled, moved = (
        fingerprint(clip_parts(clip, *files, tracks=tracks))
        for clip, tracks in ((clip, track), (clip, [Source("sha256:4", 3)]), (named, track), (elsewhere, track))
    )
    assert len({one, other, titled}) == 3
    assert moved == one


def test_a_sampler_of_another_objective_is_refused():
    with pytest.raises(ValueError, match="ddim cannot sample a model whose objective is flow"):
        job_parts(model(), FeatureSettings(), EngineSettings(solver="ddim"), VideoSettings())


@pytest.mark.slow
def test_an_absent_file_has_no_identity_and_a_storage_that_does_not_answer_is_no_absent_file(tmp_path, monkeypatch):
    assert identify(str(tmp_path / "none.wav"), Limits()) == identify("ftp://x/a.wav", Limits()) == Source("", 0)
    assert identify(str(tmp_path), Limits()) == Source("", 0)
    monkeypatch.setattr(objects, "TRIES", 1)
    for name, value in (("ENDPOINT_URL", "http://127.0.0.1:9"), ("ACCESS_KEY_ID", "a"), ("SECRET_ACCESS_KEY", "b")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(StorageError, match=r"s3://bucket/a\.wav could not be accessed"):
            identify("s3://bucket/a.wav", Limits())
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


def test_what_changes_a_file_changes_the_fingerprint_and_nothing_else_does():
    def mark(**settings):
        return fingerprint(job_parts(model(), FeatureSettings(), EngineSettings(), VideoSettings(**settings)))

    presets = [mark(preset=name) for name in PRESETS]
    places = [mark(container="mov"), mark(container="mov", audio="pcm"), mark(preset="prores_422_hq", container="mxf")]
    assert len({*presets, *places, mark(speed="slow"), mark(preset="hevc", speed="slow")}) == len(PRESETS) + 5
    assert mark(container="mp4", audio="aac") == mark()
    assert mark(preset="prores_4444", crf=30, speed="slow", audio_kbps=64) == mark(preset="prores_4444")
    assert mark(preset="ffv1", container="mxf") == mark(preset="ffv1")


def test_pauses_count_if_they_change_anything_and_the_length_of_a_clip_without_speech(tmp_path):
    span = {"start": 0.5, "end": 1.5}
    rows = [{}, {"silence": "closed"}, {"silence": "idle"}, {"silence": [span]}, {"silence": [span | {"end": 1.6}]}]
    found = marks(tmp_path, *rows)
    assert len(set(found)) == len(rows)
    assert marks(tmp_path, {"silence": "model"}, {"silence": [span | {"silence": "model"}]}) == [found[0]] * 2
    silent = [identify_sound(SimpleNamespace(audio="", seconds=seconds), Limits()) for seconds in (2.0, 3.0)]
    assert silent[0] != silent[1]


def test_spans_count_with_their_times_their_strengths_and_their_fade(tmp_path):
    span = {"start": 0.5, "end": 1.5, "emotion": "happy", "strength": 2}
    changes = ({}, {"start": 0.6}, {"end": 1.6}, {"emotion": "sad"}, {"strength": 1})
    rows = [{"emotion": [span | change]} for change in changes]
    rows += [{}, {"emotion": "happy"}, {"emotion": [span], "emotion_fade": 0}, {"emotion": [{"emotion": "sad"}, span]}]
    found = marks(tmp_path, *rows)
    assert len(set(found)) == len(rows)
    assert marks(tmp_path, {"emotion": [span | {"strength": "2.0"}], "emotion_fade": 0.3})[0] == found[0]
    # Without spans the fade changes nothing, and an entry for the whole clip alone is a named emotion.
    assert marks(tmp_path, {"emotion_fade": 0.7}, {"emotion": [{"emotion": "happy"}]}) == found[5:7]
