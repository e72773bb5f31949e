import resource
import threading
import weakref
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.media import mp4
from pipeline.media.audio import load_audio
from pipeline.media.encoders import check_encoder
from pipeline.media.mp4 import VideoWriter, verify_video
from pipeline.media.planes import rgb_to_yuv420
from pipeline.media.settings import VideoSettings, parse_fps
from tests import media

SIZE = 64


def smooth(frames):
    """Moving colour waves, (frames,3,64,64) in [-1,1]."""
    side = torch.arange(float(SIZE))
    t, y, x = torch.meshgrid(torch.arange(frames) / 10, side, side, indexing="ij")
    return 0.9 * torch.stack([torch.sin(t + x / 10), torch.cos(t + y / 12), torch.sin(t - (x + y) / 15)], dim=1)


def aac(seconds):
    return load_audio(media.wav(media.tone(440, seconds, 44_100, 2), 44_100), Limits()).sound


def encode(path, pictures, seconds, **settings):
    """Write an MP4 of RGB pictures as the engine does, and return the planes that were written."""
    planes = rgb_to_yuv420(pictures).numpy()
    writer = VideoWriter(path, size=SIZE, settings=VideoSettings(**settings), sound=aac(seconds), tags={"title": "Ä-1"})
    for first in range(0, len(planes), 7):
        writer.write(planes[first : first + 7])
    writer.close()
    return planes


def in_time(work):
    """Run `work` in a thread and return its result or error; a hang fails the test instead of stopping the suite."""
    box = []

    def run():
        try:
            box.append(work())
        except BaseException as error:
            box.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "it hangs"
    return box[0]


# --- The file --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fps", "frames"),
    [
        *(("25", 1), ("25", 2), ("25", 40), ("50", 61), ("1", 3), ("29.5", 31), ("2997/125", 30)),
        *(("30000/1001", 31), ("29.97", 33), ("23.976", 30), ("23.98", 24), ("59.94", 61), ("119.88", 121)),
    ],
)
def test_decoded_file_has_the_images_that_were_written(fps, frames, tmp_path):
    rate = parse_fps(fps)
    planes = encode(tmp_path / "clip.mp4", smooth(frames), max(0.1, float(frames / rate)), fps=fps)
    with av.open(tmp_path / "clip.mp4") as file:
        video = file.streams.video[0]
        decoded = list(file.decode(video))
        assert video.average_rate == video.guessed_rate == rate
        assert [frame.pts * video.time_base for frame in decoded] == [n / rate for n in range(frames)]
    for frame, expected in zip(decoded, planes, strict=True):
        error = frame.to_ndarray().astype(float) - expected
        assert 10 * np.log10(255**2 / np.mean(error**2)) > 38  # dB
    delivered = verify_video(tmp_path / "clip.mp4", frames=frames, fps=rate)
    assert delivered.frames == frames
    assert delivered.video_seconds == frames / rate
    assert delivered.frames / rate == sum(frame.duration * frame.time_base for frame in decoded)


def test_file_is_h264_and_aac_tagged_bt709_with_both_streams_at_0(tmp_path):
    encode(tmp_path / "clip.mp4", smooth(50), 1.99)
    with av.open(tmp_path / "clip.mp4") as file:
        video, audio = file.streams.video[0], file.streams.audio[0]
        assert len(file.streams) == 2
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert (video.width, video.height, video.pix_fmt) == (SIZE, SIZE, "yuv420p")
        context = video.codec_context
        assert (context.color_primaries, context.color_trc, context.colorspace, context.color_range) == (1, 1, 1, 1)
        assert (video.start_time, audio.start_time) == (0, 0)
        assert (audio.rate, audio.channels) == (44_100, 2)
        assert file.metadata["title"] == "Ä-1"
        sound = np.concatenate([frame.to_ndarray() for frame in file.decode(audio)], axis=1)
    # The encoder's run-in is skipped: the tone is where it was in the source.
    source = media.tone(440, 1.99, 44_100)[0]
    assert len(source) <= sound.shape[1] < len(source) + 1024
    assert np.corrcoef(sound[0, : len(source)], source)[0, 1] > 0.999


@pytest.mark.parametrize(
    "settings",
    [
        {"encoder": "auto"},
        {"encoder": "h264_nvenc"},
        {"encoder_threads": 2},
        {"encoder_threads": 5, "speed": "medium"},
        {"speed": "ultrafast", "crf": 30},
    ],
    ids=str,
)
def test_every_encoder_gives_all_frames_in_order(settings, tmp_path):
    try:
        check_encoder(VideoSettings(**settings))
    except RuntimeError as error:
        pytest.skip(f"needs a GPU: {error}")
    planes = encode(tmp_path / "clip.mp4", smooth(45), 1.8, **settings)
    verify_video(tmp_path / "clip.mp4", frames=45, fps=Fraction(25))
    with av.open(tmp_path / "clip.mp4") as file:
        decoded = np.stack([frame.to_ndarray() for frame in file.decode(video=0)]).astype(float)
    nearest = [int(np.argmin(np.mean((planes - picture) ** 2, axis=(1, 2)))) for picture in decoded]
    assert nearest == list(range(45))


@pytest.mark.parametrize("threads", [1, 2])
def test_encoder_has_its_threads_and_whole_frames(threads, tmp_path):
    encode(tmp_path / "clip.mp4", smooth(5), 0.2, encoder_threads=threads)
    written = (tmp_path / "clip.mp4").read_bytes()  # x264 writes its settings into the stream
    assert f" threads={threads} ".encode() in written
    assert b" sliced_threads=0 " in written


def test_index_comes_first(tmp_path):
    encode(tmp_path / "clip.mp4", smooth(10), 0.4)
    data = (tmp_path / "clip.mp4").read_bytes()
    boxes, start = [], 0
    while start < len(data):
        boxes.append(data[start + 4 : start + 8])
        start += int.from_bytes(data[start : start + 4], "big")
    assert boxes.index(b"moov") < boxes.index(b"mdat")


def test_sound_lies_next_to_its_frames(tmp_path):
    encode(tmp_path / "clip.mp4", smooth(250), 10.0)
    with av.open(tmp_path / "clip.mp4") as file:
        packets = sorted((p for p in file.demux() if p.size), key=lambda packet: packet.pos)
        seconds = {stream.index: 0.0 for stream in file.streams}
        apart = []
        for packet in packets:
            seconds[packet.stream.index] = float(packet.dts * packet.time_base)
            apart.append(abs(seconds[0] - seconds[1]))
    # x264 looks some 40 frames ahead, so pictures come out later than their sound.
    assert max(apart) < 4.0


FRAME_BYTES = SIZE * SIZE * 3 // 2


# --- The writer ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bound", "most"),
    [({"queue_frames": 4}, 4), ({"queue_megabytes": 3.5 * FRAME_BYTES / 1e6}, 3), ({"queue_megabytes": 0.001}, 1)],
    ids=["frames", "bytes", "less than a frame"],
)
def test_waiting_frames_are_bounded_by_their_number_and_by_their_bytes(bound, most, tmp_path, monkeypatch):
    encodes, set_up = threading.Event(), mp4.set_up_encoder

    def set_up_later(*arguments):
        encodes.wait(60)
        set_up(*arguments)

    monkeypatch.setattr(mp4, "set_up_encoder", set_up_later)
    settings = VideoSettings(**bound)
    writer = VideoWriter(tmp_path / "clip.mp4", size=SIZE, settings=settings, sound=aac(1.0), tags={})
    alive, counts = weakref.WeakValueDictionary(), []

    def write():
        for number in range(24):
            frame = np.full((1, SIZE * 3 // 2, SIZE), number, np.uint8)
            alive[number] = frame
            writer.write(frame)
            del frame
            counts.append(len(alive))

    writes = threading.Thread(target=write, daemon=True)
    writes.start()
    writes.join(0.5)  # time enough to write all of them, if it did not wait
    assert writes.is_alive()
    encodes.set()
    writes.join(60)
    writer.close()
    # Those in the queue, one in the encoder's hands and the one just taken from it.
    assert most <= max(counts) <= most + 2
    assert verify_video(tmp_path / "clip.mp4", frames=24, fps=Fraction(25)).frames == 24


FRAMES = np.zeros((300, SIZE * 3 // 2, SIZE), np.uint8)


@pytest.mark.parametrize("how", ["no folder", "disk full", "damaged sound", "frame of another size"])
def test_errors_of_the_encoder_reach_the_caller(how, tmp_path):
    path = tmp_path / "none" / "clip.mp4" if how == "no folder" else tmp_path / "clip.mp4"
    if how == "disk full":
        path.symlink_to("/dev/full")
    sound = b"no sound" if how == "damaged sound" else aac(1.0)
    frames = FRAMES[:, :-1] if how == "frame of another size" else FRAMES

    def work():
        settings = VideoSettings(queue_frames=2)
        writer = VideoWriter(path, size=SIZE, settings=settings, sound=sound, tags={})
        try:
            writer.write(frames)
        finally:
            writer.close()

    error = in_time(work)
    assert isinstance(error, ClipError)
    assert error.code == "encode_failed"
    assert error.status == "failed"


def test_an_error_after_the_last_frame_reaches_the_caller(tmp_path):
    def work():
        writer = VideoWriter(tmp_path / "clip.mp4", size=SIZE, settings=VideoSettings(), sound=aac(1.0), tags={})
        writer.write(FRAMES[:20])
        writer.close()

    assert in_time(work) is None
    whole = (tmp_path / "clip.mp4").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (whole - 1, before[1]))  # there is no room for the end of the index
    try:
        error = in_time(work)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert isinstance(error, ClipError)
    assert error.code == "encode_failed"


@pytest.mark.parametrize("sound", ["good", "damaged"])
def test_abandoned_writer_ends_its_thread(sound, tmp_path):
    before = threading.active_count()
    writer = VideoWriter(
        tmp_path / "clip.mp4",
        size=SIZE,
        settings=VideoSettings(queue_frames=2),
        sound=aac(1.0) if sound == "good" else b"",
        tags={},
    )

    def work():
        if sound == "good":
            writer.write(FRAMES[:20])
        writer.abandon()
        return "ended"

    assert in_time(work) == "ended"
    assert threading.active_count() == before


# --- Verification ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "clip.mp4"
    encode(path, smooth(30), 1.2)
    return path


@pytest.mark.parametrize(
    ("frames", "fps", "parts"), [(31, "25", ["30 frames", "31"]), (29, "25", ["30", "29"]), (30, "30", ["25", "30"])]
)
def test_wrong_number_or_rate_of_frames_is_found(clip_file, frames, fps, parts):
    with pytest.raises(ClipError) as caught:
        verify_video(clip_file, frames=frames, fps=Fraction(fps))
    assert caught.value.code == "verify_failed"
    for part in parts:
        assert part in caught.value.message


@pytest.mark.parametrize(
    "data",
    [
        media.mp4(None, pictures=30),
        media.m4a(media.tone(), 16_000),
        media.cut(media.mp4(media.tone(rate=48_000), pictures=30), 0.5),
        media.cut(media.mp4(media.tone(seconds=1.2, rate=48_000), pictures=30, faststart=True), 0.7),
        b"",
    ],
    ids=["no sound", "no pictures", "no index", "cut", "nothing"],
)
def test_file_that_is_not_whole_is_found(data, tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(data)
    with pytest.raises(ClipError) as caught:
        verify_video(path, frames=30, fps=Fraction(25))
    assert caught.value.code == "verify_failed"
