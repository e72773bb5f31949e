"""Frames whose two fields are apart in time, as old cameras and broadcasts have them."""

import io

import av
import numpy as np
import pytest

from pipeline.common.limits import Limits
from pipeline.media.deinterlace import deinterlaced
from pipeline.media.video_reader import open_video
from pipeline.training_data.source_video import SourceVideo


def bar(place):
    """A bright bar on grey, at `place`: (64,96) uint8."""
    picture = np.full((64, 96), 60, np.uint8)
    picture[:, place : place + 20] = 220
    return picture


def woven(number):
    """A frame whose odd lines are half a frame later."""
    frame = bar(4 + 6 * number)
    frame[1::2] = bar(7 + 6 * number)[1::2]
    return frame


def film(pictures, **options):
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=25, options={"crf": "4"} | options)
        stream.height, stream.width = pictures[0].shape
        stream.pix_fmt = "yuv420p"
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, format="gray").reformat(format="yuv420p")
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return buffer.getvalue()


def read(data):
    with open_video(data, Limits()) as opened:
        return [(time, frame.to_ndarray(format="gray")) for time, frame in deinterlaced(opened.timed())]


def comb(picture):
    """How much a line differs from the mean of its neighbours."""
    lines = picture.astype(float)
    return float(np.abs(lines[1:-1] - (lines[:-2] + lines[2:]) / 2).mean())


def test_the_comb_of_what_moves_goes_and_times_and_frames_stay():
    pictures = [woven(n) for n in range(8)]
    found = read(film(pictures, **{"x264-params": "interlaced=1:tff=1"}))
    assert [time for time, _ in found] == [pytest.approx(n / 25) for n in range(8)]
    for number, (_, picture) in enumerate(found):
        assert comb(picture) < 0.3 * comb(pictures[number])
        still = slice(4 + 6 * number + 6, 4 + 6 * number + 16)
        assert np.abs(picture[:, still].astype(int) - 220).max() < 25


def test_training_data_has_as_many_pictures(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(film([woven(n) for n in range(8)], **{"x264-params": "interlaced=1:tff=1"}))
    assert [number for number, _ in SourceVideo(path, Limits()).pictures()] == list(range(8))


def test_a_film_that_is_not_interlaced_is_left_alone():
    data = film([bar(4 + 6 * n) for n in range(5)])
    with open_video(data, Limits()) as opened:
        expected = [frame.to_ndarray() for _, frame in opened.timed()]
    with open_video(data, Limits()) as opened:
        found = [frame.to_ndarray() for _, frame in deinterlaced(opened.timed())]
    assert all((a == b).all() for a, b in zip(found, expected, strict=True))
