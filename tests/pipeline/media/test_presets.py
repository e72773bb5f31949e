"""Every delivery preset: its file read back by FFmpeg and decoded, and compared with those of the others."""

import io
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
import torch

from pipeline.common.errors import ClipError, RefusedError
from pipeline.common.limits import Limits
from pipeline.common.options import SettingError
from pipeline.media import encoders
from pipeline.media.audio import load_audio
from pipeline.media.encoders import check_encoder
from pipeline.media.file_faults import edit_faults, format_faults, frame_rate
from pipeline.media.joined import Piece, check_alike, format_of, join_videos
from pipeline.media.mp4 import verify_video, write_video
from pipeline.media.planes import to_planes
from pipeline.media.presets import PRESETS, file_format
from pipeline.media.settings import VideoSettings, parse_fps
from pipeline.media.sound_output import silence
from tests import media

WIDTH, HEIGHT, FRAMES = 256, 128, 5
RATE = Fraction(24_000, 1001)

FACTS = {  # muxer -> preset -> codec, profile, pixel format when decoded, codec of the sound
    "mp4": {
        "web": ("h264", "High", "yuv420p", "aac"),
        "hevc": ("hevc", "Main 10", "yuv420p10le", "aac"),
        "av1": ("av1", "Main", "yuv420p10le", "aac"),
    },
    "mov": {
        "web": ("h264", "High", "yuv420p", "aac"),
        "hevc": ("hevc", "Main 10", "yuv420p10le", "aac"),
        "prores_422_hq": ("prores", "HQ", "yuv422p10le", "pcm_s24le"),
        "prores_4444": ("prores", "4444", "yuva444p12le", "pcm_s24le"),
        "dnxhr_hq": ("dnxhd", "DNXHR HQ", "yuv422p", "pcm_s24le"),
        "dnxhr_444": ("dnxhd", "DNXHR 444", "yuv444p10le", "pcm_s24le"),
    },
    "mxf": {
        "prores_422_hq": ("prores", "HQ", "yuv422p10le", "pcm_s24le"),
        "dnxhr_hq": ("dnxhd", "DNXHR HQ", "yuv422p", "pcm_s24le"),
        "ffv1": ("ffv1", None, "yuv444p10le", "pcm_s24le"),
    },
}
CASES = [(preset, muxer) for muxer, presets in FACTS.items() for preset in presets]
BRANDS = {"mov": "qt", "mp4": "isom", "mxf": None}
TAGS = {("hevc", "mp4"): "hvc1", ("hevc", "mov"): "hvc1", ("prores_422_hq", "mov"): "apch", ("av1", "mp4"): "av01"}
DECIBELS = {"web": 40, "hevc": 40, "av1": 40, "ffv1": 200}
"""Least PSNR of the decoded planes; 55 for the others."""


def settings_of(preset, muxer, **more):
    return VideoSettings(preset=preset, container=muxer, fps=str(RATE), **more)


def pictures(frames=FRAMES, width=WIDTH, height=HEIGHT):
    """Coloured waves that move, (frames,3,height,width) in [-1,1]."""
    t, y, x = torch.meshgrid(*map(torch.arange, (frames, height, width)), indexing="ij")
    return 0.8 * torch.stack([torch.sin(t / 9 + x / 30), torch.cos(t / 8 + y / 25), torch.sin((x + y) / 40)], dim=1)


def written(path, settings, frames=FRAMES, width=WIDTH, height=HEIGHT, sound=None):
    planes = to_planes(pictures(frames, width, height), settings.format.layout).numpy()
    samples = -(-frames * 48_000 * 1001 // 24_000) - 100
    sound = silence(samples, settings.format.sound) if sound is None else sound
    write_video(planes, path, (width, height), settings, sound, {"title": "T", "comment": "AI-generated"})
    return planes


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """(path, planes) of each preset in each of its containers."""
    folder, made = tmp_path_factory.mktemp("presets"), {}
    for preset, muxer in CASES:
        path = folder / f"{preset}.{muxer}"
        made[preset, muxer] = path, written(path, settings_of(preset, muxer))
    return made


def test_all_presets_and_their_containers_are_here():
    assert sorted(CASES) == sorted((one.name, place.muxer) for one in PRESETS.values() for place in one.containers)


@pytest.mark.parametrize(("preset", "muxer"), CASES)
def test_a_file_has_what_its_preset_says(preset, muxer, files):
    path, planes = files[preset, muxer]
    codec, profile, pixels, sound = FACTS[muxer][preset]
    layout = PRESETS[preset].layout
    with av.open(path) as file:
        video, audio = file.streams.video[0], file.streams.audio[0]
        assert (len(file.streams.video), len(file.streams.audio)) == (1, 1)
        assert file.metadata.get("major_brand", "").strip() == (BRANDS[muxer] or "")
        assert muxer in file.format.name.split(",")
        assert (video.codec_context.codec.canonical_name, video.profile) == (codec, profile)
        assert video.codec_context.codec_tag == TAGS.get((preset, muxer), video.codec_context.codec_tag)
        assert (audio.codec_context.name, audio.rate) == (sound, 48_000)
        assert frame_rate(video) == RATE
        assert (video.start_time, audio.start_time) == (0, 0)
        decoded = list(file.decode(video))
        assert video.duration * video.time_base == FRAMES / RATE
        if sound == "pcm_s24le":
            assert audio.duration * audio.time_base == FRAMES / RATE  # 10010 samples: 2002 for each frame
    assert [frame.pts * frame.time_base for frame in decoded] == [n / RATE for n in range(FRAMES)]
    first = decoded[0]
    assert (first.width, first.height, first.format.name) == (WIDTH, HEIGHT, pixels)
    assert not first.interlaced_frame
    tags = first.color_primaries, first.color_trc, first.colorspace, first.color_range
    assert [int(tag) for tag in tags] == [1, 1, 1, 1]
    for frame, expected in zip(decoded, planes, strict=True):
        bits = frame.format.components[0].bits
        for plane, known in zip(frame.planes, layout.split(expected), strict=True):
            lines = np.frombuffer(memoryview(plane), np.uint8 if bits == 8 else np.uint16)
            lines = lines.reshape(plane.height, -1)[:, : plane.width] / 2.0 ** (bits - layout.bits)
            error = np.mean((lines - known) ** 2) / (255 * 2 ** (layout.bits - 8)) ** 2
            assert -10 * np.log10(error + 1e-30) > DECIBELS.get(preset, 55)


@pytest.mark.parametrize(("preset", "muxer"), CASES)
def test_verification_knows_a_preset_from_all_others(preset, muxer, files):
    path, _ = files[preset, muxer]
    form = file_format(preset, muxer)
    delivered = verify_video(path, frames=FRAMES, fps=RATE, form=form)
    assert (delivered.frames, delivered.video_seconds) == (FRAMES, FRAMES / RATE)
    for other, place in CASES:
        wanted = file_format(other, place)
        if wanted == form:
            continue
        with av.open(path) as file:
            assert format_faults(file, wanted, (WIDTH, HEIGHT)), (other, place)
        with pytest.raises(ClipError, match=f"the file is not as {other} has it: ") as refused:
            verify_video(path, frames=FRAMES, fps=RATE, form=wanted)
        assert refused.value.code == "verify_failed"


def faults(path, preset, muxer, size=(WIDTH, HEIGHT)):
    with av.open(path) as file:
        return format_faults(file, file_format(preset, muxer), size)


def remade(path, target, encoder, options, *, rate=48_000, colour=1, pts=0, tag=None, pixels="yuv422p10le"):
    """A file that is not quite that of a preset, by FFmpeg's muxer alone."""
    with av.open(target, "w", format=path.suffix[1:]) as file:
        video = file.add_stream(encoder, rate=RATE)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, pixels
        video.codec_context.color_range, video.codec_context.colorspace = 1, colour
        video.codec_context.color_primaries = video.codec_context.color_trc = colour
        video.codec_context.options = options
        if tag:
            video.codec_context.codec_tag = tag
        audio = file.add_stream("pcm_s24le", rate=rate, layout="mono")
        for number in range(FRAMES):
            frame = av.VideoFrame(WIDTH, HEIGHT, pixels)
            for plane in frame.planes:
                plane.update(bytes([64, 1] * (plane.buffer_size // 2)))
            frame.color_primaries = frame.color_trc = frame.colorspace = colour
            frame.color_range, frame.pts, frame.time_base = 1, number + pts, 1 / RATE
            file.mux(video.encode(frame))
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 9000), np.int32), "s32", "mono")
        sound.sample_rate, sound.pts = rate, 0
        file.mux(audio.encode(sound))
        for stream in (video, audio):
            file.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({}, []),
        ({"options": {"profile": "standard"}}, ["profile is Standard instead of HQ"]),
        ({"options": {"profile": "hq", "flags": "+ildct"}}, ["pictures are interlaced instead of progressive"]),
        ({"rate": 44_100}, ["sample rate is 44100 instead of 48000"]),
        (
            {"colour": 5},
            [
                "colour matrix is 5 instead of 1",
                "colour primaries is 5 instead of 1",
                "transfer function is 5 instead of 1",
            ],
        ),
    ],
)
def test_each_fault_is_named(change, found, tmp_path):
    path = tmp_path / "film.mov"
    remade(path, path, **{"encoder": "prores_ks", "options": {"profile": "hq"}} | change)
    assert faults(path, "prores_422_hq", "mov") == found
    assert edit_faults(path, file_format("prores_422_hq", "mov"), FRAMES / RATE) == []


def test_a_size_and_a_tag_of_another_kind_are_named(files, tmp_path):
    path, _ = files["hevc", "mp4"]
    assert faults(path, "hevc", "mp4", (256, 256)) == ["size is (256, 128) instead of (256, 256)"]
    changed = tmp_path / "film.mp4"
    changed.write_bytes(path.read_bytes().replace(b"hvc1", b"hev1"))
    assert faults(changed, "hevc", "mp4") == ["codec tag is hev1 instead of hvc1"]


def test_edit_lists_that_editors_read_in_different_ways_are_named(files, tmp_path):
    path, form = tmp_path / "film.mov", file_format("prores_422_hq", "mov")
    remade(path, path, "prores_ks", {"profile": "hq"}, pts=10)  # FFmpeg writes the delay as an empty edit
    found = edit_faults(path, form, FRAMES / RATE)
    assert found[0] == "edit list of track 1 has 2 edits instead of 1"
    assert found[1] == "edit list of track 1 begins with an empty edit"
    for (preset, muxer), (right, _) in files.items():
        assert edit_faults(right, file_format(preset, muxer), FRAMES / RATE) == []
        if muxer != "mxf":
            shorter = edit_faults(right, file_format(preset, muxer), (FRAMES - 1) / RATE)
            assert shorter == ["edit list of track 1 shows 0.209 s instead of 0.167 s"]
    data = files["prores_422_hq", "mov"][0].read_bytes()
    place = data.index(b"elst") + 4 + 4 + 4 + 8  # version and flags, count, length and start
    assert data[place : place + 4] == b"\0\1\0\0"
    path.write_bytes(data[:place] + b"\0\0\x80\0" + data[place + 4 :])
    assert edit_faults(path, form, FRAMES / RATE) == ["edit list of track 1 changes the speed to 0.5"]


# --- Sound -----------------------------------------------------------------------------------------------------


def pcm(path):
    with av.open(path) as file:
        frames = [frame.to_ndarray() for frame in file.decode(audio=0)]
        assert file.streams.audio[0].codec_context.name == "pcm_s24le"
        return np.concatenate(frames, axis=1).reshape(-1, file.streams.audio[0].channels)


@pytest.mark.parametrize("muxer", ["mov", "mxf"])
def test_pcm_of_48_khz_is_the_source_bit_for_bit_and_as_long_as_the_pictures(muxer, tmp_path):
    source = np.random.default_rng(0).uniform(-0.9, 0.9, (2, 9_900)).astype(np.float32)
    data = media.wav(source, 48_000, kind="s24")
    with av.open(io.BytesIO(data)) as file:
        samples = np.concatenate([frame.to_ndarray() for frame in file.decode(audio=0)], axis=1).reshape(-1, 2)
    sound = load_audio(data, Limits(), sound="pcm").sound
    path = tmp_path / f"film.{muxer}"
    written(path, settings_of("prores_422_hq", muxer), sound=sound)
    heard = pcm(path)
    assert heard.shape == (FRAMES * 2002, 2)
    np.testing.assert_array_equal(heard[:9_900], samples)
    assert not heard[9_900:].any()


def test_pcm_of_another_rate_is_resampled_once_and_keeps_its_pitch(tmp_path):
    sound = load_audio(media.wav(media.tone(1000, 0.2, 44_100), 44_100), Limits(), sound="pcm").sound
    written(tmp_path / "film.mov", settings_of("dnxhr_hq", "mov"), sound=sound)
    heard = pcm(tmp_path / "film.mov")[:9600, 0].astype(float)
    assert np.argmax(np.abs(np.fft.rfft(heard))) == pytest.approx(1000 * 0.2)


# --- Lengths ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("preset", "muxer"), [("prores_422_hq", "mov"), ("prores_422_hq", "mxf"), ("web", "mp4")])
@pytest.mark.parametrize("frames", [48, 1, 1001])
def test_slots_of_a_programme_have_exactly_their_frames(preset, muxer, frames, tmp_path):
    path = tmp_path / f"slot.{muxer}"
    settings = settings_of(preset, muxer)
    written(path, settings, frames, 32, 32)
    delivered = verify_video(path, frames=frames, fps=RATE, form=settings.format)
    assert (delivered.frames, delivered.video_seconds) == (frames, frames / RATE)
    if settings.format.sound == "pcm":
        assert delivered.audio_seconds == frames / RATE
    with pytest.raises(ClipError, match=f"the file has {frames} frames at 24000/1001 fps, but {frames + 1} frames"):
        verify_video(path, frames=frames + 1, fps=RATE, form=settings.format)


@pytest.mark.parametrize(("preset", "muxer"), [("web", "mp4"), ("prores_422_hq", "mov"), ("dnxhr_hq", "mxf")])
@pytest.mark.parametrize(
    ("fps", "timecode"),
    [
        ("25", "00:00:00:00"),
        ("25", None),
        ("24000/1001", "01:02:03:23"),
        ("30000/1001", "10:01:00;02"),
        ("30000/1001", "10:01:00:00"),
        ("30000/1001", None),
        ("60000/1001", "23:59:59;59"),
        ("120", "01:00:00:119"),
    ],
)
def test_a_time_code_is_in_the_file_and_another_one_is_found(preset, muxer, fps, timecode, tmp_path):
    settings = VideoSettings(preset=preset, container=muxer, fps=fps)
    path, form, rate = tmp_path / f"film.{muxer}", settings.format, parse_fps(fps)
    planes = to_planes(pictures(2), form.layout).numpy()
    tags = {} if timecode is None else {"timecode": timecode}
    write_video(planes, path, (WIDTH, HEIGHT), settings, silence(800, form.sound), tags)
    verify_video(path, frames=2, fps=rate, form=form, timecode=timecode)
    with pytest.raises(ClipError, match=r"time code is .* instead of 05:00:00:00"):
        verify_video(path, frames=2, fps=rate, form=form, timecode="05:00:00:00")
    with av.open(path) as file:
        tracks = [stream.metadata.get("timecode") for stream in file.streams.data]
        assert tracks == ([] if timecode is None or muxer == "mxf" else [timecode])
        assert [frame.pts * frame.time_base for frame in file.decode(video=0)] == [0, 1 / rate]


@pytest.mark.parametrize(
    ("preset", "muxer", "tag", "found"),
    [
        *(("web", "mp4", "de-AT", "deu"), ("web", "mp4", "hr", "hrv"), ("web", "mp4", "xx", "und")),
        *(("web", "mp4", None, "und"), ("web", "mov", "de-AT", "ger"), ("prores_422_hq", "mov", "pt-BR", "por")),
        *(("prores_422_hq", "mov", "hr", None), ("prores_422_hq", "mov", None, None), ("dnxhr_hq", "mxf", "de", None)),
    ],
)
def test_the_sound_has_its_language_and_another_one_is_found(preset, muxer, tag, found, tmp_path):
    settings = VideoSettings(preset=preset, container=muxer)
    path, form = tmp_path / f"film.{muxer}", settings.format
    planes = to_planes(pictures(2), form.layout).numpy()
    sound = silence(1920 * 2, form.sound)
    write_video(planes, path, (WIDTH, HEIGHT), settings, sound, {"title": "Slot 1"}, tag)
    verify_video(path, frames=2, fps=Fraction(25), form=form, language=tag)
    with av.open(path) as file:
        assert file.streams.audio[0].language == found
        assert file.metadata.get("title") == (None if muxer == "mxf" else "Slot 1")
    if muxer != "mxf":
        with pytest.raises(ClipError, match=f"language of audio track 1 is {found or 'missing'} instead of fra"):
            verify_video(path, frames=2, fps=Fraction(25), form=form, language="fr")


# --- What cannot be --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"container": "mxf"}, "container: web is delivered in mp4 or mov, not in mxf"),
        ({"preset": "ffv1", "container": "mov"}, "container: ffv1 is delivered in mxf, not in mov"),
        ({"audio": "pcm"}, "audio: web in mp4 has aac sound, not pcm"),
        ({"preset": "dnxhr_hq", "audio": "aac"}, "audio: dnxhr_hq in mxf has pcm sound, not aac"),
        ({"preset": "veryfast"}, "preset: 'veryfast' is not allowed; .*; speeds of an encoder, such as veryfast, are"),
    ],
)
def test_what_does_not_fit_a_preset_is_refused_by_its_key(settings, message):
    with pytest.raises(SettingError, match=message):
        VideoSettings(**settings)


def test_parts_of_a_preset_can_be_replaced():
    assert VideoSettings(preset="web", container="mov", audio="pcm").format.sound == "pcm"
    assert VideoSettings(preset="prores_422_hq", audio="aac").format.container.suffix == ".mov"
    assert VideoSettings(preset="dnxhr_hq", container="mov").format.sound == "pcm"


@pytest.mark.parametrize("encoder", ["libnothing", "h264_v4l2m2m"])
def test_a_preset_whose_encoder_does_not_open_is_refused(encoder, monkeypatch):
    missing = replace(PRESETS["hevc"], encoder=encoder)
    monkeypatch.setitem(encoders.PRESETS, "hevc", missing)
    encoders._problem.cache_clear()
    try:
        with pytest.raises(RefusedError, match=f"video.preset=hevc does not work here: FFmpeg's encoder {encoder} "):
            check_encoder(VideoSettings(preset="hevc"))
    finally:
        encoders._problem.cache_clear()


@pytest.mark.parametrize("preset", PRESETS)
def test_every_encoder_opens_here(preset):
    assert check_encoder(VideoSettings(preset=preset)) == PRESETS[preset].encoder


@pytest.mark.parametrize(
    ("preset", "size", "message"),
    [
        ("dnxhr_hq", (128, 128), "dnxhr_hq needs pictures of at least 256 x 120 px, but the clip has 128 x 128"),
        ("web", (65, 64), "web needs even sides, but the clip has 65 x 64 px"),
    ],
)
def test_pictures_of_a_size_that_a_preset_does_not_have_fail_with_a_sentence(preset, size, message, tmp_path):
    settings = VideoSettings(preset=preset)
    with pytest.raises(ClipError, match=message) as failed:
        write_video([], tmp_path / "film", size, settings, silence(100, settings.format.sound), {})
    assert failed.value.code == "encode_failed"


@pytest.mark.parametrize(("preset", "muxer"), CASES)
def test_files_are_joined_packet_by_packet(preset, muxer, files, tmp_path):
    path, _ = files[preset, muxer]
    pieces = [Piece("one", path, 0, FRAMES), Piece("two", path, FRAMES, FRAMES)]
    check_alike(pieces)
    form, whole = format_of(pieces, preset), tmp_path / f"whole.{muxer}"
    tags = {"title": "T", "timecode": "10:00:00:00"}
    join_videos(pieces, whole, form=form, fps=RATE, tags=tags, language="de", kbps=96)
    verify_video(whole, frames=2 * FRAMES, fps=RATE, form=form, timecode="10:00:00:00", language="de")
    assert (form.container.muxer, form.sound) == (muxer, "pcm" if FACTS[muxer][preset][3] == "pcm_s24le" else "aac")
    packets = []
    for file in (path, whole):
        with av.open(file) as read:
            packets.append([bytes(packet) for packet in read.demux(read.streams.video[0]) if packet.size])
    assert packets[1] == 2 * packets[0]
