"""Columns of the manifest in pairs: a row with both is refused with a sentence, or all that plans it knows it."""

import json
from dataclasses import replace
from fractions import Fraction
from itertools import combinations
from types import SimpleNamespace

import pytest

from jobs.bench.capacity import Rates, Work
from models import MOTION_FPS
from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.ledger.clip_row import clip_row
from pipeline.ledger.table import RowSpool, write_table
from pipeline.manifest.clip import COLUMNS
from pipeline.manifest.delivery import with_places
from pipeline.manifest.reader import read_manifest
from pipeline.manifest.requests import row_of
from pipeline.media.settings import VideoSettings
from pipeline.media.slot import AT_MOST, EITHER
from pipeline.qc.retakes import take_clip
from pipeline.render.clip_inputs import load_inputs
from pipeline.run.fingerprint import Source, clip_parts, fingerprint
from pipeline.run.lengths import estimate_seconds, seconds_of
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
PAIRS = list(combinations(FEATURES, 2))


def read(folder, *rows, posed=False):
    lines = (json.dumps({"clip_id": f"c{i}", "image": "i.png"} | row) for i, row in enumerate(rows))
    (folder / "m.jsonl").write_text("\n".join(lines))
    return read_manifest(str(folder / "m.jsonl"), model=POSED if posed else CONFIG)


def of_pair(*names):
    """The row that has both, and a sound if neither brings one."""
    values = {} if {"audio", "seconds", "faces"} & set(names) else FEATURES["audio"]
    for name in names:
        values = values | FEATURES[name]
    return values | ({"programme": " ".join(names)} if "programme" in names else {})  # of one row each


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


@pytest.fixture(scope="module")
def manifests(tmp_path_factory):
    """Pairs and the manifest of their rows, for a model with head poses and for one without."""
    folder = tmp_path_factory.mktemp("pairs")
    found = []
    for posed in (True, False):
        pairs = [pair for pair in PAIRS if ("pose" in pair) == posed]
        found.append((pairs, read(folder, *(of_pair(*pair) for pair in pairs), posed=posed)))
    return found


def test_pairs_are_refused_with_a_sentence_that_names_the_column(manifests):
    refused = {pairs[one.row - 1]: one.error.message for pairs, manifest in manifests for one in manifest.rejected}
    assert refused.keys() == REFUSED.keys()
    for pair, said in REFUSED.items():
        assert f"), {said}" in refused[pair]


def test_rows_come_back_from_failed_jsonl_and_from_tables_as_they_were_asked_for(manifests, tmp_path):
    made = {"status": "done", "fingerprint": "0123456789ab", "frames": 3, "preset": "web", "audio_stream": "number 1"}
    for (_, manifest), posed in zip(manifests, (True, False), strict=True):
        clips = list(manifest.clips)
        again = read(tmp_path, *map(row_of, clips), posed=posed)
        assert [unplaced(one, clip_id="") for one in again.clips] == [unplaced(one, clip_id="") for one in clips]
        uri = write_table(RowSpool([clip_row(clip) | made for clip in clips]), str(tmp_path))
        again = read_manifest(uri, model=POSED if posed else CONFIG)
        assert [unplaced(one, extra={}) for one in again.clips] == [unplaced(one, extra={}) for one in clips]


def unplaced(clip, **more):
    return replace(clip, row=0, line=0, **more)


def test_each_feature_makes_another_file_than_the_row_without_it(manifests):
    marks = {
        frozenset(pairs[clip.row - 1]): mark(clip) for pairs, manifest in manifests for clip in manifest.clips
    }  # fmt: skip
    alone = {name: marks[frozenset((name, "title"))] for name in FEATURES.keys() - {"title"}}  # a title makes no other
    for name in FEATURES.keys() - NO_OTHER_VIDEO - {"audio"}:
        for other in alone.keys() - {name}:
            found = marks.get(frozenset((name, other)))
            assert found != alone[other] or {name, other} == {"frame", "faces"}, (name, other)


def test_paths_of_python_begin_where_the_person_is():
    for pair in PAIRS:
        placed = json.dumps(with_places(of_pair(*pair), lambda place: f"/there/{place}"))
        assert placed.count("/there/") == sum(placed.count(name) for name in ("a.wav", "b.wav", "m.wav", "p.npy"))


def test_every_row_can_be_previewed_and_has_a_length_and_another_take(manifests):
    for clip in (clip for _, manifest in manifests for clip in manifest.clips):
        can_be_previewed(clip)
        has_a_length(clip)
        assert take_clip(clip, 2).seed != clip.seed


def can_be_previewed(clip):
    prepared = SimpleNamespace(settings=SimpleNamespace(video=VideoSettings()), wanted=SimpleNamespace(sampler="euler"))
    short = shortened(clip, PreviewSettings(seconds=2.0), prepared)
    ends = EITHER if clip.slot is not None and clip.slot.on_length == "pad" else AT_MOST
    assert (short.slot.frames, short.slot.on_length, short.programme, short.audio_tracks) == (50, ends, None, ())
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
        load_inputs(listens, Limits(), 64, VideoSettings(audio="copy", container="mov"))
    assert found.value.code == "audio_not_copied"
    assert load_inputs(listens, Limits(), 64, VideoSettings(audio="copy")).track.seconds == 1.0
