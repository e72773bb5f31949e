"""What a row says about its delivered file: preset, title, further audio tracks."""

import json

import pytest

from pipeline.manifest.delivery import FurtherTrack, with_places
from pipeline.manifest.reader import read_manifest
from pipeline.media.settings import VideoSettings


def read(tmp_path, row, **more):
    (tmp_path / "m.jsonl").write_text(json.dumps({"image": "a.png", "audio": "a.wav"} | row))
    return read_manifest(str(tmp_path / "m.jsonl"), **more)


def refusal(tmp_path, row, **more):
    (one,) = read(tmp_path, row, **more).rejected
    return one.error


LISTED = [{"uri": "m.wav", "title": "Größe", "language": None}, "s3://b/f.wav", {"uri": "/x.wav", "audio_stream": 2.0}]


@pytest.mark.parametrize("cell", [LISTED, json.dumps(LISTED)])
def test_tracks_are_a_list_of_paths_or_of_what_is_said_about_them(cell, tmp_path):
    (clip,) = read(tmp_path, {"audio_tracks": cell}).clips
    first, second, third = clip.audio_tracks
    assert first == FurtherTrack(str(tmp_path / "m.wav"), None, "Größe")
    assert second == FurtherTrack("s3://b/f.wav")
    assert third == FurtherTrack("/x.wav", audio_stream="2")
    assert first.given == {"uri": str(tmp_path / "m.wav"), "title": "Größe"}
    for empty in (None, "", []):
        assert read(tmp_path, {"audio_tracks": empty}).clips[0].audio_tracks == ()


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("music.wav", "it is a text, and not a list of tracks"),
        ({"uri": "a.wav"}, "it is a struct with uri, and not a list of tracks"),
        ([7], "track 1: it is a number, and not a mapping with a uri"),
        (["a.wav", {}], "track 2: it has no uri"),
        ([{"uri": "a.wav", "lang": "de"}], "track 1: 'lang' is not one of uri, language, title, default, audio_stream"),
        ([{"uri": "a.wav", "language": "German!"}], "language: 'German!' is not a BCP-47 tag"),
        ([{"uri": "a.wav", "default": "yes"}], "default: 'yes' is neither true nor false"),
        ([{"uri": "a.wav", "default": True}] * 2, "several tracks are the default"),
        ([{"uri": "a.wav", "title": "a\nb"}], "contains control characters"),
        ([{"uri": "a.wav", "title": "ä" * 64}], "is longer than 127 bytes"),
        ([{"uri": "a.wav", "audio_stream": 0}], "0 names no audio stream"),
        (["a.wav"] * 33, "it has 33 tracks, and 32 are the most"),
    ],
)
def test_a_wrong_track_rejects_its_row(cell, said, tmp_path):
    error = refusal(tmp_path, {"audio_tracks": cell})
    assert error.code == "value_invalid"
    assert "column audio_tracks: " in error.message
    assert said in error.message


def test_a_track_with_credentials_is_refused_and_not_repeated(tmp_path):
    error = refusal(tmp_path, {"audio_tracks": ["s3://user:secret@bucket/a.wav"]})
    assert error.code == "uri_not_allowed"
    assert "secret" not in error.message


def test_titles_may_have_any_writing_but_no_line_breaks(tmp_path):
    (clip,) = read(tmp_path, {"title": "Größe 日本", "clip_id": "c"}).clips
    assert clip.named == "Größe 日本"
    assert read(tmp_path, {"clip_id": "c"}).clips[0].named == "c"
    assert "contains control characters" in refusal(tmp_path, {"title": "a\x00b"}).message


def test_a_preset_is_checked_against_the_job(tmp_path):
    mov, mxf = VideoSettings(container="mov"), VideoSettings(preset="ffv1")
    assert read(tmp_path, {"preset": "prores_422_hq"}, video=mov).clips[0].preset == "prores_422_hq"
    assert read(tmp_path, {}, video=mov).clips[0].preset is None
    assert "'nothing' is not one of web, hevc" in refusal(tmp_path, {"preset": "nothing"}).message
    found = refusal(tmp_path, {"preset": "ffv1"}, video=mov)
    assert "column preset: it does not fit video.container: ffv1 is delivered in mxf, not in mov" in found.message
    assert "which cannot be signed" in refusal(tmp_path, {"preset": "ffv1"}, signs=True).message
    tracks = [{"uri": "a.wav", "default": True}]
    assert "MXF has no default track" in refusal(tmp_path, {"audio_tracks": tracks}, video=mxf).message


def test_places_of_all_files_are_changed_and_nothing_else():
    row = {"image": "a", "audio": 7, "title": "t", "audio_tracks": ["b", {"uri": "c", "title": "t"}, 3]}
    found = with_places(row, lambda place: f"/{place}")
    assert found == {"image": "/a", "audio": 7, "title": "t", "audio_tracks": ["/b", {"uri": "/c", "title": "t"}, 3]}
    assert with_places({"audio_tracks": '["b"]'}, str.upper) == {"audio_tracks": ["B"]}
    assert with_places({"audio_tracks": "[b"}, str.upper) == {"audio_tracks": "[b"}
