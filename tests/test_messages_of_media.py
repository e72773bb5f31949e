"""Every note on a clip's inputs, and every reason for which a part of a video is no sample, with its real sentence."""

import re
from fractions import Fraction

import numpy as np
import pytest
import s3fs
from PIL import Image, ImageFilter

from pipeline.common.limits import Limits
from pipeline.common.notes import NOTES
from pipeline.common.stage import started
from pipeline.face.detector import FaceDetector
from pipeline.face.upright import turned
from pipeline.ledger.attempt_log import TRIES
from pipeline.manifest.programme import Programme
from pipeline.media.audio import load_audio
from pipeline.media.mix import MixReader, Voice
from pipeline.media.slot import Slot
from pipeline.render.dialogue_inputs import overlaps
from pipeline.render.feature_chain import broken_notes
from pipeline.render.portrait import load_portrait
from pipeline.storage import objects
from pipeline.training_data.places import Places
from pipeline.training_data.reasons import REASONS, Dropped
from pipeline.training_data.settings import ClipSettings
from pipeline.training_data.stage import STAGE, PrepareStage
from pipeline.training_data.videos import Video
from tests import media, reels, synthetic_videos
from tests.messages import faults
from tests.pipeline.media.test_sound_reader import GLUED, SECONDS_4, remuxed, two_streams
from tests.pipeline.render.test_portrait import BLANK, FACE, OTHER, animation, beside, png

ADVICE = "nothing that says what to do"


# --- Notes -----------------------------------------------------------------------------------------------------


def portrait(data):
    return load_portrait(lambda: data, "face.png", "auto", Limits(), FaceDetector(), 64).notes


def sound(data, language=None, **how):
    return load_audio(data, Limits(), language=language, **how).notes


def two_languages():
    flags = {0: (0, "eng"), 1: (0, "ger")}
    return two_streams(media.tone(400, 0.5, 48_000), media.tone(800, 0.5, 48_000), streams=flags)


def with_a_hole():
    whole = media.encoded(media.tone(440, 2.0, 48_000), 48_000, "aac", "mp4")
    return remuxed(whole, "mp4", lambda _, n, packet: None if 0.5 <= packet.pts * packet.time_base < 1 else packet)


def opposite():
    samples, _ = media.speech()
    return media.wav(np.concatenate([samples, -samples]))


def mixed(*waves):
    reader = MixReader([Voice(media.wav(wave)) for wave in waves])
    assert sum(piece.shape[1] for piece in reader.pieces()) == max(wave.shape[1] for wave in waves)
    return reader.notes


NOTICED = {
    "portrait_turned": lambda: portrait(png(Image.fromarray(turned(np.asarray(FACE), 90)))),
    "image_animated": lambda: portrait(animation("WEBP", BLANK, FACE)),
    "faces_alike": lambda: portrait(png(beside(FACE, OTHER))),
    "faces_overlap": lambda: overlaps([(100.0, 100.0, 200.0, 220.0), (170.0, 100.0, 270.0, 220.0)])[:1],
    "mix_lowered": lambda: mixed(media.tone(), media.tone(), media.tone()),
    "audio_streams": lambda: sound(two_languages(), "de"),
    "audio_streams_unchosen": lambda: sound(two_languages()),
    "audio_channels_cancel": lambda: sound(opposite()),
    "audio_gaps": lambda: sound(with_a_hole()),
    "audio_changes": lambda: sound(b"".join(GLUED["wav"])),
    "audio_end_unsure": lambda: sound(media.encoded(SECONDS_4, 48_000, "aac", "adts")[:20_000]),
    "programme_broken": lambda: broken_notes(Programme("a").anew("the row before it, c1, was rejected")),
    "length_padded": lambda: sound(media.wav(media.tone()), slot=Slot(48, Fraction(25), "pad")),
    "length_trimmed": lambda: sound(media.wav(media.tone()), slot=Slot(7, Fraction(25), "trim")),
}


def test_every_note_has_a_sample():
    assert set(NOTICED) == set(NOTES)


@pytest.mark.parametrize("code", NOTICED)
def test_a_note_says_what_was_found_and_what_was_done(code):
    found = {note.code: note.message for note in NOTICED[code]()}
    assert list(found) == [code]
    message = found[code]
    assert set(faults(message)) <= {ADVICE}, message
    assert re.search("was |were |became |speaks|hears |check ", message), message


# --- Reasons ---------------------------------------------------------------------------------------------------

FRAMES = 26
"""One more than a sample of a second needs."""


@pytest.fixture(scope="module")
def voice():
    """A voice of two seconds and who speaks it."""
    wave = synthetic_videos.speech(2.0)
    return wave, list(reels.speaker(wave))


@pytest.fixture
def prepared(tmp_path):
    """What the stage says of a video: reason -> what was found."""

    def prepare(video="film.mp4", limits=None, curves=None, **settings):
        wanted = ClipSettings(**(reels.SMALL | settings))
        stage = started(PrepareStage(Places(str(tmp_path / "out"), "r"), wanted, Limits(**limits or {})))
        uri = video if "://" in str(video) else str(tmp_path / video)
        (sidecar,) = stage.process([Video("film-1", uri, "anna", curves=curves, fingerprint="f")])
        return {row["reason"]: row["found"] for row in sidecar["rows"]}

    return prepare


def of_file(prepared, folder, data, **given):
    (folder / "film.mp4").write_bytes(data)
    return prepared(**given)


def of_film(
    prepared, folder, voice, change=lambda picture, number: picture, sound=slice(None), count=FRAMES, heard=0, **given
):
    """What is said of the first frames of the voice, each of them changed."""
    wave, pictures = voice
    options = given.pop("film", {})
    wave = None if sound is None else wave[: (heard or count) * 640][sound]
    shown = (change(picture, number) if change else picture for number, picture in enumerate(pictures[:count]))
    reels.write(folder / "film.mp4", shown, wave, **options)
    return prepared(**given)


def on_wall(left, top=16, side=256, size=(288, 384)):
    return lambda picture, _: reels.placed(picture, left, top, side, reels.canvas(*size))


def pair(picture, _):
    return reels.placed(picture, 256, 16, 256, reels.placed(picture, 0, 16, 256, reels.canvas(288, 512)))


def soft(picture, _):
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(2.5)))


def crossing(picture, number):
    return reels.placed(picture, 15 * number, 16, 256, reels.canvas(288, 640))


def fading(picture, number):
    share = min(1.0, max(0.0, (number - 12) / 10))
    return (picture * (1 - share) + reels.canvas(256, 256) * share).astype(np.uint8)


def died(prepared, folder, voice):
    for _ in range(TRIES):
        Places(str(folder / "out"), "r").begin("film-1", STAGE)
    return of_file(prepared, folder, media.TEXT)


def unreachable(prepared, folder, voice):
    return prepared("s3://bucket/film.mp4")


def bug(prepared, folder, voice):
    try:
        {}["x"]
    except KeyError as error:
        return {"internal_error": Dropped.of(error).message}


HALF_RATE = {"times": [Fraction(2 * number, 25) for number in range(FRAMES)]}

DROPPED = {
    "uri_not_allowed": lambda p, folder, voice: p("http://host/film.mp4"),
    "input_not_found": lambda p, folder, voice: p(),
    "input_empty": lambda p, folder, voice: of_file(p, folder, b""),
    "input_too_large": lambda p, folder, voice: of_file(p, folder, b"12", limits={"max_file_megabytes": 1e-6}),
    "storage_error": unreachable,
    "unreadable": lambda p, folder, voice: of_file(p, folder, media.TEXT),
    "too_many_pixels": lambda p, folder, voice: of_film(p, folder, voice, limits={"max_image_megapixels": 0.01}),
    "too_long": lambda p, folder, voice: of_film(p, folder, voice, limits={"max_audio_minutes": 0.01}),
    "hdr": lambda p, folder, voice: of_film(p, folder, voice, film={"color_trc": 16}),
    "curves_unreadable": lambda p, folder, voice: of_file(p, folder, b"x", curves=str(folder / "film.mp4")),
    "worker_died": died,
    "internal_error": bug,
    "interrupted": lambda p, folder, voice: {"interrupted": Dropped("interrupted", REASONS["interrupted"]).message},
    "lost": lambda p, folder, voice: {"lost": Dropped("lost", REASONS["lost"]).message},
    "no_audio": lambda p, folder, voice: of_film(p, folder, voice, sound=None),
    "silent": lambda p, folder, voice: of_film(p, folder, (0 * voice[0], voice[1])),
    "av_offset_too_large": lambda p, folder, voice: of_film(
        p, folder, (np.roll(voice[0], 6 * 640), voice[1]), count=50, min_av_confidence=0.01
    ),
    "too_short": lambda p, folder, voice: of_film(p, folder, voice, min_seconds=2.0),
    "few_frames": lambda p, folder, voice: of_film(p, folder, voice, film=HALF_RATE, count=25, heard=50),
    "no_face": lambda p, folder, voice: of_film(p, folder, voice, lambda picture, _: reels.canvas()),
    "face_lost": lambda p, folder, voice: of_film(p, folder, voice, fading, count=50),
    "several_faces": lambda p, folder, voice: of_film(p, folder, voice, pair),
    "face_too_small": lambda p, folder, voice: of_film(p, folder, voice, min_face=200),
    "face_cut_off": lambda p, folder, voice: of_film(p, folder, voice, on_wall(60, 110)),
    "moves_too_far": lambda p, folder, voice: of_film(p, folder, voice, crossing),
    "yaw_too_large": lambda p, folder, voice: of_film(p, folder, voice, max_yaw=0.5),
    "blurred": lambda p, folder, voice: of_film(p, folder, voice, soft),
}
"""Reason -> what the stage says of a video that has it."""

OF_FILES = (
    *("uri_not_allowed", "input_not_found", "input_empty", "input_too_large", "storage_error", "unreadable"),
    *(
        "too_many_pixels",
        "too_long",
        "hdr",
        "curves_unreadable",
        "worker_died",
        "internal_error",
        "interrupted",
        "lost",
    ),
)
"""Reasons for which something must be done with a file or a setting; the others are facts about a part of it."""


def test_every_reason_has_a_sample():
    assert set(DROPPED) | {"timed_out"} == set(REASONS)  # tests/pipeline/common/test_child.py reads that one


@pytest.mark.parametrize("code", DROPPED)
def test_a_reason_says_what_was_found_and_names_its_setting(code, prepared, voice, tmp_path, monkeypatch):
    monkeypatch.setattr(objects, "TRIES", 1)
    for name, value in {"ENDPOINT_URL": "http://127.0.0.1:1", "MAX_ATTEMPTS": "1", "ACCESS_KEY_ID": "x"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "y")
    s3fs.S3FileSystem.clear_instance_cache()  # others have another server
    try:
        found = DROPPED[code](prepared, tmp_path, voice)
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
    assert code in found, found
    message = found[code]
    assert set(faults(message)) <= (set() if code in OF_FILES else {ADVICE}), message
    for key in re.findall(r"(?:clips|limits)\.\w+|retry_died", REASONS[code]):
        assert key in message, message
