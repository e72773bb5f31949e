"""Sound that is passed through: the packets are the source's, it is heard alike, and what does not fit is refused."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from pipeline.common.errors import ClipError, RefusedError
from pipeline.common.limits import Limits
from pipeline.media.audio import load_audio, load_track
from pipeline.media.joined import Piece, check_alike, format_of, join_videos
from pipeline.media.mp4 import verify_video, write_video
from pipeline.media.presets import CONTAINERS, MOV, MP4, MXF, PRESETS, file_format
from pipeline.media.settings import VideoSettings
from pipeline.media.slot import ClipLength, Slot
from pipeline.media.sound_output import SoundTrack, TrackTags
from pipeline.media.sound_reader import SoundReader
from tests import media
from tests.pipeline.media.test_sound_reader import two_streams

RATE = 48_000
FPS = Fraction(25)


def stereo(seconds=0.4):
    return np.concatenate([media.tone(440, seconds, RATE), 0.5 * media.tone(660, seconds, RATE)])


SOURCES = {
    "wav of 16 bits": lambda: media.wav(stereo(), RATE),
    "wav of 24 bits": lambda: media.wav(stereo(), RATE, kind="s24"),
    "wav of 44.1 kHz": lambda: media.wav(stereo(), 44_100),
    "wav of floats": lambda: media.wav(stereo(), RATE, kind="f32"),
    "aac": lambda: media.encoded(stereo(), RATE, "aac", "mp4"),
    "adts": lambda: media.encoded(stereo(), RATE, "aac", "adts"),
    "mp3": lambda: media.encoded(stereo(), RATE, "libmp3lame", "mp3"),
    "ac3": lambda: media.encoded(stereo(), RATE, "ac3", "mov"),
    "alac": lambda: media.encoded(stereo(), RATE, "alac", "mov"),
    "flac": lambda: media.encoded(stereo(), RATE, "flac", "flac"),
    "opus": lambda: media.encoded(stereo(), RATE, "libopus", "ogg"),
    "opus in webm": lambda: media.encoded(stereo(), RATE, "libopus", "webm"),
    "film": lambda: media.mp4(stereo(), pictures=10),
}
FITS = {
    "mp4": {"aac", "adts", "mp3", "ac3", "alac", "flac", "opus", "film"},
    "mov": {"aac", "adts", "mp3", "ac3", "alac", "film", "wav of 16 bits", "wav of 24 bits", "wav of 44.1 kHz"},
    "mxf": {"wav of 16 bits", "wav of 24 bits"},
}
WHY = {
    ("wav of floats", "mov"): "it is pcm_f32le, and mov can have aac, mp3",
    ("wav of 16 bits", "mp4"): "it is pcm_s16le, and mp4 can have aac, mp3",
    ("wav of 44.1 kHz", "mxf"): "it has 44100 Hz, and mxf has 48000",
    ("opus in webm", "mp4"): "it would be heard otherwise in mp4 than in its file",  # which counts milliseconds
}


def payload(file, number=0):
    with av.open(file) as opened:
        return b"".join(bytes(packet) for packet in opened.demux(audio=number))


def delivered(path, container, track, tracks=(), **tags):
    preset = {"mp4": "web", "mov": "web", "mxf": "ffv1"}[container.muxer]
    settings = VideoSettings(preset=preset, container=container.muxer, audio="copy")
    layout = settings.format.layout
    frames = track.frames(FPS)
    planes = np.full((frames, layout.plane_rows(32), 32), 128 << layout.bits - 8, layout.dtype)
    write_video(planes, path, 32, settings, track.sound, tags, "de", tracks)
    return {"frames": frames, "fps": FPS, "form": settings.format, "language": "de", "tracks": tracks}


@pytest.mark.parametrize("name", SOURCES)
def test_packets_are_those_of_the_source_where_the_container_can_have_them(name, tmp_path):
    data = SOURCES[name]()
    for container in CONTAINERS.values():
        if name not in FITS[container.muxer]:
            with pytest.raises(ClipError, match=r"set video\.audio to aac or pcm") as refused:
                load_audio(data, Limits(), sound="copy", container=container)
            assert refused.value.code == "audio_not_copied"
            assert WHY.get((name, container.muxer), "it is ") in refused.value.message
            continue
        track = load_audio(data, Limits(), sound="copy", container=container)
        path = tmp_path / f"film{container.suffix}"
        wanted = delivered(path, container, track)
        verify_video(path, **wanted, copied=track.sound)
        if name != "adts":  # its packets have headers of their own, which MP4 keeps once
            assert payload(str(path)) == payload(io.BytesIO(data))
        other = load_audio(media.wav(media.tone(90, 0.4, RATE), RATE), Limits())
        with pytest.raises(ClipError, match="the audio differs from the source, whose packets it should have"):
            verify_video(path, **wanted, copied=other.sound)


def test_a_sound_that_would_have_to_be_changed_is_not_copied():
    data = SOURCES["aac"]()
    for slot, fits in ((Slot(10, FPS), True), (Slot(11, FPS), True), (Slot(20, FPS, "pad"), False)):
        if fits:
            assert load_audio(data, Limits(), sound="copy", slot=slot).sound
            continue
        with pytest.raises(ClipError, match="on_length is pad, and the audio does not have the length") as refused:
            load_audio(data, Limits(), sound="copy", slot=slot)
        assert refused.value.code == "audio_not_copied"


def test_one_of_several_streams_is_copied():
    tones, flags = (media.tone(400, 0.5, RATE), media.tone(800, 0.5, RATE)), {0: (0, "eng"), 1: (0, "ger")}
    film = two_streams(*tones, container="mp4", streams=flags)
    first, second = (load_audio(film, Limits(), sound="copy", language=tag).sound for tag in ("en", "de"))
    assert payload(io.BytesIO(first)) == payload(io.BytesIO(film))
    assert payload(io.BytesIO(second)) == payload(io.BytesIO(film), 1)


def test_every_preset_can_copy():
    for preset in PRESETS.values():
        for container in preset.containers:
            form = file_format(preset.name, container.muxer, "copy")
            assert form.sound_codecs == container.copies


# --- Further tracks --------------------------------------------------------------------------------------------


def test_a_file_with_other_tracks_than_the_row_is_no_delivery(tmp_path):
    track = load_audio(SOURCES["aac"](), Limits(), sound="copy")
    music = SoundTrack(track.sound, TrackTags("fr", "Musique", default=True))
    other = SoundTrack(track.sound, TrackTags("fr", "Musique"))
    path = tmp_path / "film.mp4"
    wanted = delivered(path, MP4, track, (music, other), title="Größe 日本")
    verify_video(path, **wanted, copied=track.sound, title="Größe 日本")
    for tags, problem in (
        (TrackTags("it", "Musique", default=True), "language of audio track 2 is fra instead of ita"),
        (TrackTags("fr", "Music", default=True), "title of audio track 2 is Musique instead of Music"),
        (TrackTags("fr", "Musique"), "default flag of audio track 1 is missing instead of True"),
    ):
        tracks = (SoundTrack(track.sound, tags), other)
        with pytest.raises(ClipError, match=problem):
            verify_video(path, **wanted | {"tracks": tracks})
    with pytest.raises(ClipError, match="number of audio tracks is 3 instead of 2"):
        verify_video(path, **wanted | {"tracks": (music,)})
    with pytest.raises(ClipError, match="title is 'Größe 日本' instead of 'Grösse'"):
        verify_video(path, **wanted, title="Grösse")


@pytest.mark.parametrize("title", ["日", "É", "abcé", "Musik & Effekte", "x" * 127, "ä" * 63])
@pytest.mark.parametrize("container", [MP4, MOV])
def test_titles_of_tracks_are_read_back_in_any_writing(title, container, tmp_path):
    track = load_audio(SOURCES["aac"](), Limits(), sound="copy", container=container)
    path = tmp_path / f"film{container.suffix}"
    wanted = delivered(path, container, track, (SoundTrack(track.sound, TrackTags("hr", title)),))
    verify_video(path, **wanted)


@pytest.mark.parametrize(("seconds", "on_length", "allowed"), [
    (0.4, "refuse", True), (0.37, "refuse", True), (0.43, "refuse", True), (0.5, "refuse", False),
    (0.3, "refuse", False), (0.3, "pad", True), (0.3, "trim", False), (0.5, "trim", True), (0.5, "pad", False),
])  # fmt: skip
def test_a_track_has_the_clips_length_within_a_frame(seconds, on_length, allowed):
    data, length = media.wav(media.tone(440, seconds, RATE), RATE), ClipLength(10, FPS, on_length)
    if not allowed:
        with pytest.raises(ClipError, match=r"but the clip 10 frames \(0\.400 s\) at 25 fps") as refused:
            load_track(data, Limits(), length)
        assert refused.value.code == "track_length_differs"
        return
    sound, notes = load_track(data, Limits(), length, sound="pcm", container=MXF)
    with av.open(io.BytesIO(sound)) as file:
        assert sum(frame.samples for frame in file.decode(audio=0)) == 19_200
    assert len(notes) == (abs(seconds - 0.4) > 0.08)


def test_a_track_may_be_silent():
    silent = media.wav(np.zeros((1, 19_200), np.float32), RATE)
    assert load_track(silent, Limits(), ClipLength(10, FPS))[0]
    with pytest.raises(ClipError, match="digital silence"):
        load_audio(silent, Limits())


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=lambda one: one.muxer)
def test_files_with_copied_sounds_of_all_kinds_are_joined(container, tmp_path):
    pieces, frame = [], 0
    for number, name in enumerate(sorted(FITS[container.muxer])):
        track = load_audio(SOURCES[name](), Limits(), sound="copy", container=container)
        path = tmp_path / f"{number}{container.suffix}"
        made = delivered(path, container, track)
        pieces.append(Piece(name, path, frame, made["frames"]))
        frame += made["frames"]
    check_alike(pieces)
    form, whole = format_of(pieces, made["form"].preset.name), tmp_path / f"whole{container.suffix}"
    assert form.sound == ("pcm" if container == MXF else "aac")
    join_videos(pieces, whole, form=form, fps=FPS, tags={}, language=None, kbps=192)
    verify_video(whole, frames=frame, fps=FPS, form=form)
    reader = SoundReader(whole.open("rb"), containers="mov,mxf")
    heard = np.concatenate(list(reader.pieces()), axis=1)
    assert (reader.rate, reader.channels) == (RATE, 2)
    for piece in pieces:
        part = heard[:, int((piece.frame + 3) * RATE / FPS) :][:, : int(4 * RATE / FPS)]
        assert (part**2).mean(axis=1) == pytest.approx([0.125, 0.031], rel=0.3), piece.name


def test_a_joined_file_has_two_channels_at_most(tmp_path):
    surround = np.repeat(media.tone(440, 0.4, RATE), 6, axis=0)
    track = load_audio(media.encoded(surround, RATE, "flac", "flac"), Limits(), sound="copy", container=MP4)
    made = delivered(tmp_path / "a.mp4", MP4, track)
    with pytest.raises(RefusedError, match="a has sound of 6 channels, and a joined file has 2 at most"):
        format_of([Piece("a", tmp_path / "a.mp4", 0, made["frames"])], "web")
