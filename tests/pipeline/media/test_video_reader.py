"""Videos as people bring them: what is read, and a sentence for what is not."""

import io
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from pipeline.common.limits import Limits
from pipeline.media import untrusted, video_reader
from pipeline.media.video_reader import VideoError, open_video
from tests import media, reels

FRAMES = 30
RAW = ("Invalid data", "avcodec", "Errno", "errno", "Traceback", "FFmpeg")
CODECS = {"mp4": "libx264", "matroska": "libx264", "webm": "libvpx", "avi": "mpeg4", "mpegts": "mpeg2video"}


def film(container="mp4", codec=None, frames=FRAMES, metadata=None, **options):
    """Noise, so that each frame has many bytes."""
    draw = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder, av.open(f"{folder}/film", "w", container, options=options) as file:
        file.metadata.update(metadata or {})
        stream = file.add_stream(codec or CODECS[container], rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for _ in range(frames):
            noise = draw.integers(0, 255, (64, 64, 3), dtype=np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
        file.mux(stream.encode(None))
        file.close()
        return Path(folder, "film").read_bytes()


def read(data, limits=None):
    """Times of the frames."""
    with open_video(data, limits or Limits()) as opened:
        return [time - opened.zero for time, _ in opened.timed()]


def refusal(data, limits=None):
    with pytest.raises(VideoError) as error:
        read(data, limits)
    assert not any(word in str(error.value) for word in RAW)
    return error.value.problem, str(error.value)


@pytest.mark.parametrize("container", CODECS)
def test_every_container_is_read_from_bytes_and_from_a_file(container, tmp_path):
    data = film(container)
    times = read(data)
    assert len(times) == FRAMES
    np.testing.assert_allclose(np.diff(np.array(times, float)), 1 / 25, atol=1e-3)
    (tmp_path / "a").write_bytes(data)
    with open_video(tmp_path / "a", Limits()) as opened:
        assert len(list(opened.frames())) == FRAMES


@pytest.mark.parametrize("container", ["mp4", "matroska", "webm", "avi"])
def test_a_film_whose_upload_was_cut_is_found_wherever_its_index_is(container):
    options = {"movflags": "+faststart"} if container == "mp4" else {}
    problem, message = refusal(media.cut(film(container, **options), 0.6))
    assert problem == "cut_short" or "because the upload was interrupted" in message
    assert "upload it again" in message
    if problem == "cut_short":
        assert "fewer bytes than its header declares, and ends after 0." in message


def test_a_film_whose_index_was_cut_off_says_so():
    assert refusal(media.cut(film(), 0.6)) == (
        "unreadable",
        "the file has fewer bytes than its header declares, and cannot be opened: upload it again",
    )


@pytest.mark.parametrize("more", [b"\0" * 100, b"trailing text of a web server", b"\xff" * 40])
def test_what_follows_a_whole_film_does_not_matter(more):
    assert len(read(film() + more)) == FRAMES
    assert len(read(film(movflags="+faststart") + more)) == FRAMES


def test_a_live_recording_has_no_length_and_is_read():
    assert len(read(film("matroska", live="1"))) == FRAMES
    assert len(read(film(movflags="+frag_keyframe+empty_moov"))) == FRAMES


def test_damage_in_the_middle_is_said_with_its_time():
    data = bytearray(film())
    place = len(data) * 2 // 3
    data[place : place + 3000] = bytes(3000)
    problem, message = refusal(bytes(data))
    assert problem == "unreadable"
    assert "cannot be decoded after 0." in message
    assert "it is damaged" in message


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (media.TEXT, "the file is a text, and not a video: use MP4"),
        (b"", "the file is empty"),
        (bytes(range(256)) * 20, "cannot be read as a video: use MP4"),
        (media.picture(media.colours(), "JPEG"), "the file is a picture (JPEG), and not a video"),
        (media.picture(media.colours(), "WEBP"), "the file is a picture (WebP), and not a video"),
        (b"<html><body>404</body></html>", "the file is a web page (HTML)"),
        (film("flv", "flv"), "the file is a film in another container"),
        (b"\0\0\0\x18ftypisom" + bytes(400), "the file is a film (MP4), but it is damaged at its start"),
        (media.m4a(media.tone(rate=48_000), 48_000), "no video stream"),
        (film("avi", "flv"), "frames in flv cannot be read: export the video as"),
    ],
    ids=["text", "nothing", "bytes", "JPEG", "WebP", "a page", "FLV", "damaged", "sound alone", "another codec"],
)
def test_what_is_no_film_is_refused_in_words(data, words):
    problem, message = refusal(data)
    assert problem == "unreadable"
    assert words in message


def test_a_cover_is_no_film_and_the_default_stream_is_the_film():
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as file:
        streams = [file.add_stream("libx264", rate=25) for _ in range(2)]
        for stream, side in zip(streams, (32, 64), strict=True):
            stream.width = stream.height = side
            stream.pix_fmt = "yuv420p"
        streams[0].disposition = Disposition(0)
        streams[1].disposition = Disposition.default
        file.start_encoding()
        for stream, side in zip(streams, (32, 64), strict=True):
            for picture in reels.shades([90, 100, 110], side):
                file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            file.mux(stream.encode(None))
    with open_video(buffer.getvalue(), Limits()) as opened:
        assert {frame.width for _, frame in opened.frames()} == {64}


def test_a_title_in_an_old_encoding_does_not_matter():
    data = film(metadata={"title": "Xrgerlich"}).replace(b"Xrgerlich", b"\xc4rgerlich")
    assert len(read(data)) == FRAMES


def test_pixels_minutes_streams_and_packets_without_frames_are_bounded(monkeypatch):
    data = film()
    problem, message = refusal(data, Limits(max_image_megapixels=0.004))
    assert (problem, "64 x 64 pixels" in message) == ("too_many_pixels", True)
    problem, message = refusal(data, Limits(max_audio_minutes=0.01))
    assert (problem, "limits.max_audio_minutes = 0.01" in message) == ("too_long", True)
    monkeypatch.setattr(video_reader, "MOST_PACKETS_WITHOUT_FRAME", -1)
    assert "not what a video looks like" in refusal(data)[1]
    monkeypatch.setattr(untrusted, "MOST_STREAMS", 0)
    assert "the file has 1 streams" in refusal(data)[1]


def test_a_time_stamp_far_behind_the_others_is_too_long(tmp_path):
    times = [*(Fraction(n, 25) for n in range(5)), Fraction(5 * 3600)]
    path = reels.write(tmp_path / "a.mp4", reels.shades([128] * 6), times=times)
    assert refusal(path.read_bytes())[0] == "too_long"
