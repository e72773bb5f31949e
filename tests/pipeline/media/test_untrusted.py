"""What a file of somebody else may claim: each bound has a sentence, and what is within them is read."""

import io
import struct

import av
import numpy as np
import pytest

from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.evaluation.watch import probe
from pipeline.media import sound_reader, sound_timeline, untrusted
from pipeline.media.audio import load_audio
from pipeline.media.video_reader import VideoError, open_video
from tests import media


def refusal(data):
    with pytest.raises(ClipError) as raised:
        load_audio(data, Limits())
    return raised.value


def wav_with(rate=16_000, channels=1, seconds=0.2):
    """A WAV of 8-bit samples that declares these."""
    body = bytes(range(256)) * (int(16_000 * seconds) * channels // 256 + 1)
    header = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, rate, rate * channels, channels, 8)
    riff = b"WAVE" + header + b"data" + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", len(riff)) + riff


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({"rate": 1}, "the file declares 1 samples per second, but sound has between 1,000 and 768,000"),
        ({"rate": 999}, "the file declares 999 samples per second"),
        ({"rate": 2**31 - 1}, "samples per second"),
        ({"channels": 65}, "the file declares 65 channels, but sound has at most 64: export it in stereo"),
        ({"channels": 500}, "the file declares 500 channels"),
    ],
)
def test_what_no_recording_has_is_refused(declared, said):
    error = refusal(wav_with(**declared))
    assert error.code == "audio_unreadable"
    assert said in error.message


@pytest.mark.parametrize("declared", [{"channels": 65_535}, {"channels": 0}, {"rate": 0}])
def test_what_ffmpeg_does_not_open_has_a_sentence(declared):
    assert refusal(wav_with(**declared)).code in ("audio_unreadable", "audio_no_stream")


@pytest.mark.parametrize("declared", [{"rate": 1000}, {"rate": 655_350}, {"channels": 64}])
def test_what_is_rare_is_read(declared):
    assert load_audio(wav_with(**declared), Limits(min_audio_seconds=0.0)).samples > 0


def test_flac_at_655_khz_is_read():
    assert load_audio(media.flac(media.tone(440, 0.2, 655_350), 655_350), Limits()).rate == 655_350


def test_a_short_file_cannot_claim_a_terabyte(monkeypatch):
    monkeypatch.setattr(sound_timeline, "MOST_VALUES", 20_000)
    with pytest.raises(ClipError, match=r"samples in 2 channels of 48,000 Hz: export it in stereo") as raised:
        load_audio(media.wav(media.tone(440, 3.0, 48_000, 2), 48_000), Limits(max_audio_minutes=0.1))
    assert raised.value.code == "audio_too_long"


def test_packets_without_sound_end(monkeypatch):
    monkeypatch.setattr(sound_reader, "MOST_PACKETS_WITHOUT_FRAME", 0)
    assert "contain no sound, which is not what a recording looks like" in refusal(media.wav(media.tone())).message


def film(streams=1, **metadata):
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as file:
        file.metadata.update(metadata)
        made = [file.add_stream("pcm_s16le", rate=16_000, layout="mono") for _ in range(streams)]
        frame = av.AudioFrame.from_ndarray(np.full((1, 1600), 9999, np.int16), format="s16", layout="mono")
        frame.sample_rate = 16_000
        for stream in made:
            frame.pts = 0
            file.mux(stream.encode(frame))
    return buffer.getvalue()


def test_streams_and_titles_are_counted():
    assert load_audio(film(), Limits()).seconds == pytest.approx(0.1)
    many, long = film(streams=untrusted.MOST_STREAMS + 1), film(comment="x" * (untrusted.MOST_METADATA + 1))
    assert "the file has 65 streams: export it with one video or one sound" in refusal(many).message
    assert "characters of titles and comments: export it without them" in refusal(long).message
    for data in (many, long):
        with pytest.raises(VideoError, match=r"streams: export|titles and comments"), open_video(data, Limits()):
            pass


def test_a_title_that_is_not_utf8_is_no_obstacle():
    data = film(title="caf\u00e9 au lait").replace("caf\u00e9".encode(), b"caf\xe9\xff")
    assert load_audio(data, Limits()).seconds == pytest.approx(0.1)


@pytest.mark.parametrize("rate", [1000, 90_000])
def test_a_frame_rate_that_no_video_has_is_refused_by_an_evaluation(rate, tmp_path):
    with av.open(tmp_path / "a.mkv", "w") as file:
        stream = file.add_stream("ffv1", rate=rate, width=64, height=64, pix_fmt="yuv420p")
        for number in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((96, 64), np.uint8), format="yuv420p")
            frame.pts = number
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    with pytest.raises(ClipError, match=r"frames per second, but videos have 1 to 240") as raised:
        probe(tmp_path / "a.mkv", Limits())
    assert raised.value.code == "video_unreadable"
