"""Columns of the manifest in pairs: a row with both is refused with a sentence, or everything that plans it knows it."""

import json
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from types import SimpleNamespace

import pytest

from jobs.bench.capacity import Rates, Work
from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.face.pose_input import MOTION_FPS
from pipeline.ledger.clip_row import clip_row
from pipeline.ledger.table import RowSpool, write_table
from pipeline.manifest.clip import COLUMNS
from pipeline.manifest.delivery import with_places
from pipeline.manifest.reader import read_manifest
from pipeline.manifest.requests import row_of
from pipeline.media.settings import VideoSettings
from pipeline.media.slot import AT_MOST
from pipeline.qc.retakes import take_clip
from pipeline.render.clip_inputs import load_inputs
from pipeline.run.fingerprint import Source, clip_parts, fingerprint
from pipeline.run.plan import estimate_seconds
from pipeline.run.plan_rows import seconds_of
from pipeline.run.preview import PreviewSettings, shortened
from tests import media
from tests.pipeline.render.test_full_frames import pasted, png
from tests.tiny import CONFIG

POSED = replace(CONFIG, pose="head")

FEATURES = {
    "audio": {"audio": "a.wav"},
    "seconds": {"seconds": 9.0},
    "faces": {"frame": "full", "faces": [{"face": 1, "audio": "b.wav", "speaker": "Ben"}, {"face": 2, "idle": True}]},
    "emotion": {"emotion": [{"start": 1, "end": 5, "emotion": "happy"}, {"emotion": "sad"}], "emotion_fade": 0.5},
    "silence": {"silence": [{"start": 1, "end": 5, "silence": "idle"}]},
    "pose": {"pose": [{"pose": "p.npy"}, {"start": 1, "end": 5, "yaw": 9}], "pose_fade": 0.2},
    "programme": {"programme": "evening", "order": 2.0},
    "timecode": {"timecode": "10:00:00:00"},
    "frames": {"frames": 225, "on_length": "pad"},
    "frame": {"frame": "full"},
    "crop": {"crop": "none"},
    "face": {"face": 2},
    "audio_stream": {"audio_stream": "de"},
    "audio_tracks": {"audio_tracks": [{"uri": "m.wav", "language": "fr", "title": "Musique"}]},
    "title": {"title": "Abendschau"},
    "preset": {"preset": "prores_422_hq"},
    "language": {"language": "de"},
    "speaker": {"speaker": "Anna", "consent_ref": "c-1"},
    "seed": {"seed": 7},
    "nfe": {"nfe": 20},
    "a_cfg_scale": {"a_cfg_scale": 3.0},
    "e_cfg_scale": {"e_cfg_scale": 2.0},
    "r_cfg_scale": {"r_cfg_scale": 2.0},
    "tags": {"tags": "evening"},
}
REFUSED = {
    ("audio", "seconds"): "column seconds: the row has an audio",
    ("audio", "faces"): "column audio: the row has faces",
    ("seconds", "faces"): "column seconds: the longest audio of the faces",
    ("seconds", "audio_stream"): "column audio_stream: a clip without speech has no audio file",
    ("faces", "pose"): "column faces: this model is conditioned on head poses",
    ("faces", "programme"): "column programme: rows of a programme animate one face",
    ("faces", "crop"): "column faces: crop is none",
    ("faces", "face"): "column face: the row has faces",
    ("crop", "face"): "column face: crop is none",
}
NO_OTHER_VIDEO = {"title", "language", "speaker", "tags"}
"""What alone makes no other file."""
PAIRS = [pair for pair in combinations(FEATURES, 2) if not {"audio", "face"} == set(pair)]
MORE = [{"fade": 1} for _ in ()]


def read(folder, row, name="m.jsonl"):
    (folder / name).write_text(json.dumps({"clip_id": "c", "image": "i.png"} | row) + "\n")
    return read_manifest(str(folder / name), model=POSED if "pose" in row else CONFIG)


def of_pair(*names):
    """The row that has both, and a sound if neither brings one."""
    values = {} if {"audio", "seconds", "faces"} & set(names) else FEATURES["audio"]
    for name in names:
        values = values | FEATURES[name]
    return values


def mark(clip):
    """Its fingerprint; files are identified by their names."""

    def source(uri):
        return Source(uri, 1)

    first, *others = [source(uri or f"seconds:{clip.seconds}") for uri in clip.sounds]
    pose = None if clip.pose is None else source(clip.pose)
    tracks = [source(track.uri) for track in clip.audio_tracks]
    return fingerprint(clip_parts(clip, source(clip.image), first, {}, pose, tracks, others))


def test_every_column_is_in_a_feature():
    given = {name for row in FEATURES.values() for name in row}
    assert given | {"clip_id", "image", "gaze"} == set(COLUMNS)


def test_pairs_are_refused_with_a_sentence_or_known_to_all_that_plan(tmp_path):
    refused = {}
    for pair in combinations(FEATURES, 2):
        row = of_pair(*pair)
        manifest = read(tmp_path, row)
        if manifest.rejected:
            refused[pair] = manifest.rejected[0].error.message.removeprefix("row 1 (line 1), ")
            continue
        (clip,) = manifest.clips
        comes_back(tmp_path, clip, row)
        is_another_clip(tmp_path, clip, pair)
        can_be_previewed(clip)
        has_a_length(clip)
        assert take_clip(clip, 2).seed != clip.seed
    assert refused.keys() == REFUSED.keys()
    for pair, said in REFUSED.items():
        assert refused[pair].startswith(said)


def comes_back(folder, clip, row):
    """As a row of failed.jsonl, of a table of a run, and of Python with paths of its own."""
    (again,) = read(folder, row_of(clip)).clips
    assert replace(again, line=clip.line) == clip
    made = {"status": "done", "fingerprint": "0123456789ab", "frames": 3, "preset": "web", "audio_stream": "number 1"}
    uri = write_table(RowSpool([clip_row(clip) | made]), str(folder))
    (again,) = read_manifest(uri, model=POSED if clip.pose else CONFIG).clips
    known = {"line": 0, "extra": clip.extra}
    assert replace(again, **known) == replace(clip, **known)
    placed = json.dumps(with_places(row, lambda place: f"/there/{place}"))
    assert placed.count("/there/") == sum(placed.count(name) for name in ("a.wav", "b.wav", "m.wav", "p.npy"))


def is_another_clip(folder, clip, pair):
    """Each of the two makes another file than the other alone, unless it is none of those that do."""
    for alone, more in (pair, pair[::-1]):
        if more in NO_OTHER_VIDEO or more in ("audio", "seconds", "faces") or alone == "faces" and more == "frame":
            continue
        (other,) = read(folder, of_pair(alone)).clips if alone != "pose" else (None,)
        if other is not None and "pose" != more:
            assert mark(other) != mark(clip), pair


def can_be_previewed(clip):
    prepared = SimpleNamespace(settings=SimpleNamespace(video=VideoSettings()), wanted=SimpleNamespace(sampler="euler"))
    short = shortened(clip, PreviewSettings(seconds=2.0), prepared)
    assert (short.slot.frames, short.slot.on_length, short.programme, short.audio_tracks) == (50, AT_MOST, None, ())
    for spans in (short.spans, short.pose_spans, short.silence.spans, *(face.spans for face in short.faces)):
        assert all(span.end <= 2.0 - 0.04 + 1 / MOTION_FPS for span in spans)
    assert short.frame == ("full" if clip.faces else "crop")
    assert mark(short) != mark(clip)


def has_a_length(clip):
    """For the plan and for what a manifest costs."""
    size = 64_000 * 9
    assert seconds_of(clip, *[size for _ in clip.sounds]) == pytest.approx(9.0)
    (asked,) = estimate_seconds([clip], Limits())
    assert asked == (9.0 if clip.seconds or clip.slot else 0.0)  # the other files do not exist
    rates = Rates(1, False, features=1.0, load_seconds=0.0, sampling=1.0, end_to_end=1.0, nfe=clip.nfe)
    work = Work.of([clip], [9.0], rates, Fraction(25))
    assert work.render == pytest.approx(225 * max(1, len(clip.faces)))


@pytest.mark.parametrize("name", ["seconds", "faces"])
def test_a_list_in_which_no_row_has_an_audio_needs_no_such_column(tmp_path, name):
    assert len(read(tmp_path, FEATURES[name]).clips) == 1


@pytest.mark.slow
def test_pauses_of_a_dialogue_lie_within_it_and_silence_is_no_packet_of_a_file(tmp_path):
    (tmp_path / "i.png").write_bytes(png(pasted(640, 360, ("2022", 20, 40, 280), ("2016", 330, 60, 260))))
    samples, rate = media.speech()
    (tmp_path / "b.wav").write_bytes(media.wav(samples[:, :rate], rate))
    late = FEATURES["faces"] | {"silence": [{"start": 0.5, "end": 3}]}
    with pytest.raises(ClipError, match="span 1 of the column silence") as found:
        load_inputs(read(tmp_path, late).clips[0], Limits(), 64, VideoSettings())
    assert found.value.code == "silence_span_too_late"
    listens = read(tmp_path, {"seconds": 1.0}).clips[0]
    with pytest.raises(ClipError, match="a clip without speech has no audio file") as found:
        load_inputs(listens, Limits(), 64, VideoSettings(audio="copy"))
    assert found.value.code == "audio_not_copied"
    mov = VideoSettings(audio="copy", container="mov")
    assert load_inputs(listens, Limits(), 64, mov).track.seconds == 1.0
