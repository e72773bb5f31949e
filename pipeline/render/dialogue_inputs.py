"""The files of a clip with several faces (column `faces`): a portrait of each from one image, and the sound of each."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np

from pipeline.common.child import in_child
from pipeline.common.errors import ClipError, naming
from pipeline.common.limits import Limits
from pipeline.common.notes import Note
from pipeline.face.choice import FaceChoice
from pipeline.face.crop import square_of
from pipeline.face.detector import FaceDetector
from pipeline.face.full_frame import FrameSize, FullFrame, full_frame, mask
from pipeline.face.networks import Box
from pipeline.face.upright import Upright
from pipeline.manifest.dialogue import face_name, of_face, parts_of
from pipeline.media.audio import NONE, AudioTrack, load_audio, track_of
from pipeline.media.mix import MixReader, Voice
from pipeline.media.presets import COPY
from pipeline.media.settings import VideoSettings
from pipeline.media.slot import Slot
from pipeline.media.sound_copy import not_copied
from pipeline.render.portrait import Portrait, decoded_portrait, portrait_in
from pipeline.storage.untrusted import read_input

if TYPE_CHECKING:
    from pipeline.manifest.clip import Clip  # it imports what a child process does not need

MOST_COVERED = 0.1
"""Share of a face's box that the square of another may cover before a person is asked to look: what is covered of it
does not move with it. Equal boxes that touch cover 0.29 of each other, and those a fifth of their width apart 0.09.
"""

GRID = 64
"""Points per side of a box at which that is looked at."""


def dialogue_sound(
    clip: "Clip", limits: Limits, video: VideoSettings, minutes: float
) -> tuple[AudioTrack, list[np.ndarray], list[Note]]:
    """The mix of a clip's sounds; the sound of each face as in `FaceInputs`; and what was noticed about all.

    Raises ClipError, which names the face. `minutes` as for `in_child`.
    """
    if video.format.sound == COPY:
        raise not_copied("the sound of several faces is a mix")
    voices: list[Voice] = []
    heard: list[np.ndarray] = []
    notes: list[Note] = []
    for part, face in zip(parts_of(clip), clip.faces, strict=True):
        if face.audio is None:
            heard.append(np.zeros(0, np.float32))
            continue
        with of_face(face.number), naming("audio", face.audio):
            voice = Voice(read_input(face.audio, limits), part.language, part.audio_stream)
            own = in_child(_heard, voice, limits, minutes=minutes)
        voices.append(voice)
        heard.append(own.wave)
        notes += [Note(note.code, f"{face.name}: {note.message}") for note in own.notes]
    try:
        track = in_child(_mixed, voices, limits, video, clip.slot, minutes=minutes)
    except ClipError as error:
        raise ClipError(error.code, f"all faces together: {error.message}") from error
    length = len(track.wave)
    waves = [np.pad(wave[:length], (0, max(0, length - len(wave)))) for wave in heard]
    return track, waves, [*notes, *track.notes]


# --- In a child process ----------------------------------------------------------------------------------------

detector = cache(FaceDetector)


def dialogue_portraits(
    data: bytes, name: str, faces: Sequence[FaceChoice], limits: Limits, size: int, frame: FrameSize
) -> tuple[list[Portrait], FullFrame, list[Note]]:
    """The portrait of each face of an image file, the whole picture with their squares, and what was noticed.

    The image is decoded once, and its faces are found once. Raises ClipError, which names the face: those of
    `load_portrait`, and face_named_twice.
    """
    with of_face(1):
        first = decoded_portrait(data, name, "auto", limits, detector(), size, faces[0])
    assert first.upright is not None
    found, portraits = Upright(first.upright, first.turn or 0, list(first.faces)), [first]
    for number, face in enumerate(faces[1:], start=2):
        with of_face(number):
            portrait = portrait_in(found, limits, detector(), size, face)
            _check_is_new(portrait, portraits)
        portraits.append(portrait)
    boxes = [portrait.face_box for portrait in portraits if portrait.face_box is not None]
    full = full_frame(found.image, boxes[0], frame, boxes[1:])
    return [replace(one, upright=None, faces=()) for one in portraits], full, overlaps(boxes)


def _check_is_new(portrait: Portrait, before: Sequence[Portrait]) -> None:
    for number, other in enumerate(before, start=1):
        if portrait.face_box == other.face_box:
            raise ClipError(
                "face_named_twice",
                f"it is the same face of the image as {face_name(number)}: correct one of them, or leave it out",
            )


def overlaps(boxes: Sequence[Box]) -> list[Note]:
    """A note for each face of which the square of another covers more than `MOST_COVERED`."""
    notes = []
    for (above, square), (below, box) in permutations(enumerate(boxes, start=1), 2):
        share = covered(square, box)
        if share > MOST_COVERED:
            text = (
                f"the square around {face_name(above)} covers {share:.0%} of {face_name(below)}; squares were put into "
                "the picture in the order of the column faces, so the later one hides what is under it: watch where "
                "the heads touch, or write the face in front last"
            )
            notes.append(Note("faces_overlap", text))
    return notes


def covered(animated: Box, box: Box) -> float:
    """Share of a face's `box` that the frames of another face, with the box `animated`, cover; 0 to 1."""
    steps = (np.arange(GRID) + 0.5) / GRID
    left, top, right, bottom = box
    x, y = left + steps * (right - left), top + steps * (bottom - top)
    return float(mask(x, y[:, None], square_of(animated)).mean())


def _heard(voice: Voice, limits: Limits) -> AudioTrack:
    return load_audio(voice.data, limits, language=voice.language, wanted=voice.stream, sound=NONE)


def _mixed(voices: Sequence[Voice], limits: Limits, video: VideoSettings, slot: Slot | None) -> AudioTrack:
    mix = MixReader(voices, max_seconds=limits.max_audio_minutes * 60)
    return track_of(mix, limits, kbps=video.audio_kbps, sound=video.format.sound, slot=slot)
