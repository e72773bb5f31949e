"""One job whose rows have presets, titles and audio tracks of their own, and a job that copies its audio."""

import json
import math
from fractions import Fraction

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from av.stream import Disposition

from tests import media
from tests.running import run_job

RATE = 48_000


def sounds(folder):
    """Files of 0.4 s (10 frames), and one that is longer by three frames."""
    for name, hertz, seconds in (("speech", 300, 0.4), ("music", 500, 0.39), ("french", 700, 0.4), ("long", 300, 0.52)):
        (folder / f"{name}.wav").write_bytes(media.wav(media.tone(hertz, seconds, RATE), RATE, kind="s24"))
    (folder / "portrait.png").write_bytes(media.PORTRAIT.read_bytes())


def manifest(folder, *rows, name="m.jsonl"):
    usual = {"image": "portrait.png", "audio": "speech.wav", "language": "de-AT"}
    lines = (json.dumps({"clip_id": f"c{n}"} | usual | row) + "\n" for n, row in enumerate(rows))
    (folder / name).write_text("".join(lines))
    return f"manifest={folder / name}"


def render(model, folder, table, *settings):
    """How the job ended, and the rows of its table by clip_id."""
    out = folder / "out"
    places = (table, f"model={model.path}", f"output={out}", "executor=serial", "render.mode=eager")
    done = run_job("render", *places, *settings)
    assert (out / "clips.parquet").exists(), done.stdout + done.stderr
    return done, {row["clip_id"]: row for row in pq.read_table(out / "clips.parquet").to_pylist()}


def heard(uri):
    """Of each audio track: the loudest frequency (Hz), the length (s), language, title and default flag."""
    found = []
    with av.open(uri) as file:
        count = len(file.streams.audio)
    for number in range(count):
        with av.open(uri) as file:
            stream = file.streams.audio[number]
            samples = np.concatenate([frame.to_ndarray().reshape(-1) for frame in file.decode(stream)]).astype(float)
            peak = np.argmax(np.abs(np.fft.rfft(samples))) * stream.rate / len(samples)
            length = float(stream.duration * stream.time_base)
            default = bool(stream.disposition & Disposition.default)
            title = stream.metadata.get("handler_name")
            found.append((round(peak, -1), round(length, 2), stream.language, title, default))
    return found


START = {"timecode": "01:00:00:00"}
TRACKS = [
    {"uri": "music.wav", "title": "Musik & Effekte ä", "language": "zxx"},
    {"uri": "french.wav", "language": "fr-CA", "title": "日", "default": True},
]


@pytest.fixture(scope="module")
def delivered(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tracks")
    sounds(folder)
    rows = (
        {"audio_tracks": TRACKS, "title": "Folge 1: Größe 日本", "timecode": "10:00:00:00"},
        {
            "preset": "prores_422_hq",
            "audio_tracks": json.dumps(TRACKS[:1]),
            "title": "Größe",
            "timecode": "01:00:00:00",
        },
        {"preset": "ffv1", "audio_tracks": ["music.wav", "french.wav"], "title": "日本"},
        {"preset": "dnxhr_hq"},
        {"audio_tracks": ["long.wav"]},
        {"audio_tracks": [{"uri": "http://host/a.wav"}]},
        {"preset": "hevc"},
    )
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("pipeline.media.encoders._problem", lambda name: "no memory" if name == "hevc" else None)
        return folder, *render(tiny_model, folder, manifest(folder, *rows))


@pytest.mark.slow
def test_tracks_are_in_their_order_with_languages_titles_and_the_default_flag(delivered):
    _, done, rows = delivered
    assert [rows[f"c{n}"]["status"] for n in range(7)] == ["done"] * 3 + ["rejected"] * 4, done.stdout + done.stderr
    assert heard(rows["c0"]["uri"]) == [
        (300, 0.4, "deu", "SoundHandler", False),
        (500, 0.4, "zxx", "Musik & Effekte ä", False),  # it was a quarter of a frame short
        (700, 0.4, "fra", "日", True),
    ]
    assert heard(rows["c1"]["uri"]) == [
        (300, 0.4, "ger", "SoundHandler", True),
        (500, 0.4, None, "Musik & Effekte ä", False),  # QuickTime's languages have no zxx
    ]
    assert [fact[:2] for fact in heard(rows["c2"]["uri"])] == [(300, 0.4), (500, 0.4), (700, 0.4)]
    assert [track["uri"].rpartition("/")[2] for track in json.loads(rows["c0"]["audio_tracks"])] == [
        "music.wav",
        "french.wav",
    ]


@pytest.mark.slow
def test_presets_titles_and_time_codes_are_those_of_the_row(delivered):
    _, _, rows = delivered
    facts = {"c0": ("web", None, "h264"), "c1": ("prores_422_hq",) * 2 + ("prores",), "c2": ("ffv1", "ffv1", "ffv1")}
    titles = {"c0": "Folge 1: Größe 日本", "c1": "Größe", "c2": "日本"}
    for clip_id, (preset, wanted, codec) in facts.items():
        row = rows[clip_id]
        assert (row["preset"], row["preset_wanted"], row["title"]) == (preset, wanted, titles[clip_id])
        with av.open(row["uri"]) as file:
            video = file.streams.video[0]
            assert video.codec_context.codec.canonical_name == codec
            assert sum(1 for _ in file.decode(video)) == 10
            assert titles[clip_id] in (file.metadata.get("title"), file.metadata.get("material_package_name"))
        assert (row["qc_format_faults"], row["qc_frames_missing"], row["qc_notes"]) == (0, 0, [])
        assert row["qc_loudness_error_lu"] < 0.5  # that of the clip's own sound, which is not the default of c0
    assert (rows["c0"]["timecode_after"], rows["c1"]["timecode_after"]) == ("10:00:00:10", "01:00:00:10")


@pytest.mark.slow
def test_rows_that_cannot_be_delivered_are_rejected_alone_and_can_be_rendered_again(delivered):
    folder, done, rows = delivered
    assert done.returncode == 1
    codes = [rows[f"c{n}"]["error_code"] for n in range(3, 7)]
    assert codes == ["frame_size_invalid", "track_length_differs", "uri_not_allowed", "preset_unavailable"]
    said = rows["c4"]["error_message"]
    assert said.startswith("audio track 1 ")
    assert "lasts 13 frames (0.520 s), but the clip 10 frames (0.400 s) at 25 fps" in said
    assert (
        "preset hevc does not work here: FFmpeg's encoder libx265 does not open (no memory)"
        in (rows["c6"]["error_message"])
    )
    again = [json.loads(line) for line in (folder / "out" / "failed.jsonl").read_text().splitlines()]
    assert [row["preset"] for row in again] == ["dnxhr_hq", None, None, "hevc"]
    assert json.loads(again[1]["audio_tracks"])[0]["uri"] == str(folder / "long.wav")
    assert all("preset_wanted" not in row for row in again)


@pytest.mark.slow
def test_copied_audio_has_the_packets_of_its_file_and_other_clips_are_rejected(tiny_model, tmp_path):
    sounds(tmp_path)
    (tmp_path / "film.m4a").write_bytes(media.encoded(media.tone(440, 0.6, RATE), RATE, "aac", "mp4"))
    frames = math.ceil(0.6 * 25)
    rows = (
        {"audio": "film.m4a", "audio_tracks": [{"uri": "film.m4a", "language": "en"}], "frames": frames},
        {"audio": "film.m4a", "frames": 10, "on_length": "trim"},
        {"audio": "speech.wav"},
    )
    _, made = render(tiny_model, tmp_path, manifest(tmp_path, *rows), "video.audio=copy")
    assert [made[f"c{n}"]["error_code"] for n in range(3)] == [None, "audio_not_copied", "audio_not_copied"]
    assert "mp4 can have aac, mp3" in made["c2"]["error_message"]
    with av.open(str(tmp_path / "film.m4a")) as file:
        source = [bytes(packet) for packet in file.demux(audio=0) if packet.size]
    for number in range(2):
        with av.open(made["c0"]["uri"]) as file:
            assert [bytes(packet) for packet in file.demux(audio=number) if packet.size] == source
            assert sum(frame.samples for frame in file.decode(audio=number)) == 0  # all packets were taken
    assert (made["c0"]["qc_format_faults"], made["c0"]["frames"]) == (0, frames)
    assert Fraction(made["c0"]["frames"], 25) >= Fraction(6, 10)
