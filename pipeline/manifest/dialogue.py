"""Values of the column `faces`: the people of one picture who speak or listen in one clip, each with a sound.

    [{"face": 1, "audio": "anna.wav", "emotion": "happy"}, {"face": "1250,420", "audio": "ben.wav"},
     {"face": 3, "idle": true}]

A face is its number from the left, a point or a box, as in the column `face`. What an entry does not say about emotion,
guidance, language and audio stream is the row's, and its seed is the row's plus its place in the list, from 0, because
with one noise for all, the heads would move alike. Who speaks, and with which consent, is never taken from the row.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from models import FloatConfig
from pipeline.common.errors import ClipError
from pipeline.common.quoted import quoted
from pipeline.face.choice import parse_choice
from pipeline.manifest.emotion_spans import EmotionSpan, weights_or_spans
from pipeline.manifest.entries import given_in, of_text
from pipeline.manifest.row_reader import RowReader
from pipeline.manifest.silence import Silence
from pipeline.manifest.values import NO_NUMBER
from pipeline.storage.uris import resolve

if TYPE_CHECKING:
    from pipeline.manifest.clip import Clip

MOST_FACES = 8
"""Faces that one clip animates: each takes as much time and memory on the device as a clip of its own."""

LARGEST_SEED = 2**63 - 1

KEYS = ("face", "audio", "idle", "emotion", "e_cfg_scale", "seed", "audio_stream", "language", "speaker", "consent_ref")
"""What an entry may have."""

EXAMPLE = '[{"face": 1, "audio": "a.wav"}, {"face": 2, "audio": "b.wav"}]'


@dataclass(frozen=True)
class DialogueFace:
    """One face of the column `faces`."""

    number: int = field(compare=False)
    """Its place in the list, from 1, for messages."""
    face: str
    """A number, a point or a box, as `pipeline.face.choice` writes it."""
    audio: str | None
    """URI or absolute path; None for an idle face."""
    emotion: dict[str, float] | None = None
    spans: tuple[EmotionSpan, ...] = ()
    e_cfg_scale: float = 1.0
    seed: int | None = None
    """None: it follows from the row's."""
    language: str | None = None
    audio_stream: str | None = None
    speaker: str | None = None
    consent_ref: str | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return face_name(self.number)


def face_name(number: int) -> str:
    """What messages call the entry with this place, from 1."""
    return f"faces[{number}]"


def in_face(number: int, error: ClipError) -> ClipError:
    """The error of one face, with its name at the start of the message; what it says of the column is its entry's."""
    return ClipError(
        error.code, f"{face_name(number)}: {error.message.replace('column face', 'the face of this entry')}"
    )


@contextmanager
def of_face(number: int) -> Iterator[None]:
    """Errors of the block are those of this face."""
    try:
        yield
    except ClipError as error:
        raise in_face(number, error) from error


def parts_of(clip: "Clip") -> "tuple[Clip, ...]":
    """A clip with several faces -> one clip for each of them, as if it stood in a row of its own; else the clip."""
    return tuple(_part(clip, face) for face in clip.faces) or (clip,)


def _part(clip: "Clip", face: DialogueFace) -> "Clip":
    seed = (clip.seed + face.number - 1) & LARGEST_SEED if face.seed is None else face.seed
    shared = ("face", "emotion", "spans", "e_cfg_scale", "language", "audio_stream", "speaker", "consent_ref")
    own: dict[str, Any] = {name: getattr(face, name) for name in shared}
    if face.audio is None:
        own["silence"] = Silence("idle")
    return replace(clip, faces=(), audio=face.audio or "", seed=seed, **own)


# --- Reading ---------------------------------------------------------------------------------------------------


def face_of(read: RowReader, crop: str, default: str) -> str:
    """The value of the column `face` as `pipeline.face.choice` writes it. Raises ClipError."""
    value = read.given.get("face")
    if isinstance(value, str) and value.strip().lower() in NO_NUMBER:  # of a column of numbers
        value = None
    if value is not None and crop == "none":
        raise read.invalid(
            "face", "crop is none, so that no face is looked for: leave this cell empty, or set crop to auto"
        )
    try:
        return str(parse_choice(default if value is None else value))
    except ValueError as error:
        raise read.invalid("face", str(error)) from None


def read_faces(read: RowReader, base: str, model: FloatConfig, clip: Mapping[str, Any]) -> tuple[DialogueFace, ...]:
    """The faces of a row; none if the column is empty.

    `clip` has the row's own `frame`, `crop`, `e_cfg_scale` and `seconds`. Raises ClipError, which names row and entry.
    """
    entries = _entries(read)
    if not entries:
        return ()
    if clip["frame"] != "full":
        raise read.invalid(
            "faces",
            "several faces are animated in the whole picture, but frame is crop, which delivers one square: set frame "
            "to full (or video.frame=full)",
        )
    if clip["crop"] != "auto":
        raise read.invalid("faces", "crop is none, so that no faces are looked for: set crop to auto")
    if model.pose != "none":
        raise read.invalid(
            "faces",
            "this model is conditioned on head poses, of which a row has one: use a model without that condition",
        )
    if "programme" in read.given:
        raise read.invalid("programme", "rows of a programme animate one face: leave this cell or the cell faces empty")
    if clip["seconds"]:
        raise read.invalid("seconds", "the longest audio of the faces says how long the clip is: leave this cell empty")
    for column, instead in (("audio", "audio of each face"), ("face", "face of each entry")):
        if column in read.given:
            raise read.invalid(column, f"the row has faces, and the {instead} stands there: leave this cell empty")
    found = [_face(read, number, entry, base, model, clip) for number, entry in enumerate(entries, start=1)]
    if not any(face.audio for face in found):
        raise read.invalid("faces", "no face has an audio: give one to at least one face, because it sets the length")
    for face in found:
        first = next(one for one in found if one.face == face.face)
        if first is not face:
            raise read.invalid(
                "faces", f"{face.name}: {first.name} names the same face, {face.face}: give each face one entry"
            )
    return tuple(found)


def _entries(read: RowReader) -> list[Mapping[str, Any]]:
    given = read.given.get("faces")
    if given is None:
        return []
    try:
        value = of_text(given)
    except ValueError as error:
        raise read.invalid("faces", str(error)) from None
    if not isinstance(value, list) or not value or not all(isinstance(entry, Mapping) for entry in value):
        raise read.invalid("faces", f"{quoted(given)} is not a list of objects such as {EXAMPLE}")
    if len(value) > MOST_FACES:
        raise read.invalid("faces", f"{len(value)} faces are more than the {MOST_FACES} that a clip may have")
    return value


def _face(
    read: RowReader, number: int, entry: Mapping[str, Any], base: str, model: FloatConfig, clip: Mapping[str, Any]
) -> DialogueFace:
    name, row = face_name(number), read.given
    try:
        given = given_in(entry, KEYS)
    except ValueError as error:
        raise read.invalid("faces", f"{name}: {error}") from None
    inherited = {key: row[key] for key in ("emotion", "language", "audio_stream") if key in row}
    own = replace(read, given=inherited | given, within=f"faces: {name}")
    idle = given.get("idle", False)
    if not isinstance(idle, bool):
        raise own.invalid("idle", f"{quoted(idle)} is not true: leave it out for a face that speaks")
    audio = own.text("audio")
    if idle == (audio is not None):
        both = "it has an audio and is idle" if idle else "it has no audio"
        raise own.invalid("audio", f'{both}: give an audio to a face that speaks, or "idle": true to one that listens')
    if idle and "audio_stream" in given:
        raise own.invalid("audio_stream", "a face that listens has no audio: leave it out")
    scale = own.number("e_cfg_scale", 0, 20, clip["e_cfg_scale"])
    emotion, spans = own.emotions(model, scale)
    return DialogueFace(
        number=number,
        face=_choice(own),
        audio=None if audio is None else resolve(base, own.file("audio", audio)),
        emotion=emotion,
        spans=spans,
        e_cfg_scale=scale,
        seed=own.integer("seed", 0, LARGEST_SEED, 0) if "seed" in given else None,
        language=own.language(),
        audio_stream=None if idle else own.audio_stream(),
        speaker=own.text("speaker"),
        consent_ref=own.text("consent_ref"),
    )


def _choice(read: RowReader) -> str:
    value = read.given.get("face")
    if value is None:
        raise read.invalid("face", "it says which face of the picture is meant: write its number, a point or a box")
    try:
        choice = parse_choice(value)
    except ValueError as error:
        raise read.invalid("face", str(error)) from None
    if not choice.names_one:
        raise read.invalid(
            "face", f"{quoted(value)} does not say which face: write its number from the left, a point or a box"
        )
    return str(choice)


# --- Writing ---------------------------------------------------------------------------------------------------


def faces_text(faces: tuple[DialogueFace, ...]) -> str | None:
    """Faces as JSON that a manifest can have; None if there are none."""
    return json.dumps([dict(_written(face)) for face in faces]) if faces else None


def _written(face: DialogueFace) -> Iterator[tuple[str, Any]]:
    yield "face", face.face
    yield from [("idle", True)] if face.audio is None else [("audio", face.audio)]
    if (emotion := weights_or_spans(face.spans, face.emotion)) is not None:
        yield "emotion", emotion
    yield "e_cfg_scale", face.e_cfg_scale
    for name in ("seed", "audio_stream", "language", "speaker", "consent_ref"):
        if (value := getattr(face, name)) is not None:
            yield name, value
