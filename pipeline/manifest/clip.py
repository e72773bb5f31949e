"""One clip to render, and how a manifest row becomes one: typed, validated, and with defaults filled in."""

import math
import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any

from models import EMOTIONS, FloatConfig
from models.sampling import check_nfe, default_nfe
from pipeline.common.errors import ClipError
from pipeline.common.redaction import carries_credentials
from pipeline.manifest.settings import ClipDefaults
from pipeline.storage.objects import resolve

COLUMNS = (
    *("clip_id", "image", "audio", "language", "speaker", "emotion", "seed", "nfe"),
    *("a_cfg_scale", "e_cfg_scale", "r_cfg_scale", "crop", "pose", "consent_ref", "tags"),
)

POSE_ARRAYS = (".npy", ".csv")
POSE_VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
"""Suffixes of videos from which head poses can be read (`pipeline.face.pose_input`)."""


@dataclass(frozen=True)
class Clip:
    """One clip to render: a valid manifest row with defaults filled in."""

    row: int
    """Row number in the manifest, from 1, not counting a header."""
    clip_id: str
    image: str
    """URI or absolute path."""
    audio: str
    emotion: dict[str, float] | None
    """Weights by emotion, with sum 1; with None the emotion comes from where `emotion_from` says."""
    seed: int
    nfe: int
    a_cfg_scale: float
    e_cfg_scale: float
    r_cfg_scale: float
    crop: str
    language: str | None = None
    speaker: str | None = None
    consent_ref: str | None = None
    tags: Any = None
    extra: dict[str, Any] = field(default_factory=dict)
    """Columns without a meaning for us, which are passed through to the output row."""
    emotion_from: str = "speech"
    """speech, image or none: where the model takes the emotion from if the row gives none."""
    pose: str | None = None
    """URI or absolute path of the head poses, for a model with that condition."""
    fingerprint: str = "unplanned"
    """Identity of the inputs and of every setting that affects the pixels (`pipeline.run.fingerprint`)."""

    @property
    def pose_source(self) -> str | None:
        """array or video: what kind of file the head poses come from; None if there are none."""
        if self.pose is None:
            return None
        return "video" if self.pose.lower().endswith(POSE_VIDEOS) else "array"


@dataclass(frozen=True)
class Wanted:
    """What the model and the job's settings require of a row."""

    model: FloatConfig
    sampler: str
    """The resolved sampler, never auto."""
    defaults: ClipDefaults


def read_clip(row: int, values: Any, base: str, wanted: Wanted) -> Clip:
    """One table row -> Clip. Raises ClipError, which names the row, the column and the allowed values.

    Relative paths start at the folder `base`.
    """
    if not isinstance(values, dict):
        problem = str(values) if isinstance(values, ValueError) else f"it is {type(values).__name__}"
        raise ClipError("row_unreadable", f"row {row}: the line is not a JSON object ({problem})")
    # Absent, null, empty and NaN (which pandas writes for missing numbers) all mean "not given".
    given = {name: value for name, value in values.items() if not is_absent(value)}
    read, model, defaults = _Reader(row, given), wanted.model, wanted.defaults
    image, audio = read.text("image", required=True), read.text("audio", required=True)
    assert image is not None
    assert audio is not None
    image, audio = read.place("image", resolve(base, image)), read.place("audio", resolve(base, audio))
    nfe = read.integer("nfe", 1, 1000, defaults.nfe or default_nfe(model.objective))
    try:
        check_nfe(wanted.sampler, nfe)
    except ValueError as error:
        raise read.invalid("nfe", str(error)) from None
    return Clip(
        row=row,
        clip_id=_valid_id(row, read.text("clip_id") or default_id(given)),
        image=image,
        audio=audio,
        emotion=read.emotion(model),
        emotion_from=model.emotion,
        pose=read.pose(base, model),
        seed=read.integer("seed", 0, 2**63 - 1, defaults.seed),
        nfe=nfe,
        a_cfg_scale=read.number("a_cfg_scale", 0, 20, defaults.a_cfg_scale),
        e_cfg_scale=read.number("e_cfg_scale", 0, 20, defaults.e_cfg_scale),
        r_cfg_scale=read.number("r_cfg_scale", 0, 20, defaults.r_cfg_scale),
        crop=read.choice("crop", ("auto", "none"), defaults.crop),
        language=read.language(),
        speaker=read.text("speaker"),
        consent_ref=read.text("consent_ref"),
        tags=given.get("tags"),
        extra={name: value for name, value in values.items() if name not in COLUMNS},
    )


_UNNAMED = {
    "speech": "predict the emotion from speech",
    "image": "predict the emotion from the portrait",
    "none": "use none, because this model has no emotion condition",
}


def is_absent(value: Any) -> bool:
    """Whether a table gives no value: null, an empty text, or NaN, which pandas writes for missing values."""
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def default_id(values: dict[str, Any]) -> str:
    """The clip_id of a row that gives none: the name of the audio file without its folder and suffix."""
    name = str(values.get("audio") or "").replace("\\", "/").rsplit("/", 1)[-1]
    return name.rsplit(".", 1)[0] if "." in name[1:] else name


def _valid_id(row: int, clip_id: str) -> str:
    """Check a clip_id, which becomes a file name and an object key, so nothing in it may point elsewhere."""
    clip_id = unicodedata.normalize("NFC", clip_id)
    bad = next(filter(_cannot_name, clip_id), "")
    if bad or clip_id.startswith(".") or ".." in clip_id or clip_id != clip_id.strip() or not clip_id:
        reason = (
            f"it contains the character {bad!a}"
            if bad
            else "it is empty, starts with a dot or a space, or contains '..'"
        )
        raise ClipError(
            "clip_id_invalid",
            f"row {row}, column clip_id: {clip_id!r} cannot be used as a file name, because {reason}; use letters, "
            "digits, space, '.', '_' and '-'",
        )
    if re.fullmatch(r"(?i)(con|prn|aux|nul|(com|lpt)[0-9¹²³])( *[.].*)?", clip_id):
        raise ClipError(
            "clip_id_invalid",
            f"row {row}, column clip_id: {clip_id!r} is the name of a device on Windows, whatever follows it: choose "
            "another name",
        )
    if len(clip_id.encode()) > 200:
        raise ClipError("clip_id_invalid", f"row {row}, column clip_id: it is longer than 200 bytes of UTF-8")
    return clip_id


def _cannot_name(character: str) -> bool:
    """Whether a character separates folders on some system, or is invisible, so that different names look the same."""
    if character in '/\\:*?"<>|' or set(unicodedata.normalize("NFKC", character)) & {"/", "\\"}:
        return True
    # Characters of category Cf change the writing direction or have no width; Persian and Indian scripts need two of
    # them.
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in "\u200c\u200d"


@dataclass(frozen=True)
class _Reader:
    """Typed access to the values of one row."""

    row: int
    values: dict[str, Any]

    def invalid(self, column: str, problem: str) -> ClipError:
        return ClipError("value_invalid", f"row {self.row}, column {column}: {problem}")

    def text(self, column: str, required: bool = False) -> str | None:
        value = self.values.get(column)
        if value is None:
            if required:
                raise ClipError("value_missing", f"row {self.row}, column {column}: a value is required")
            return None
        # Speaker and clip ids are often columns of numbers.
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise self.invalid(column, f"{value!r} is not text")
        return str(value)

    def place(self, column: str, uri: str) -> str:
        """`uri`, unless it would put a secret into the clip's row."""
        if carries_credentials(uri):
            raise ClipError(
                "uri_not_allowed",
                f"row {self.row}, column {column}: {uri!r} contains credentials; remove them, because the storage "
                "reads credentials from the environment",
            )
        return uri

    def integer(self, column: str, least: int, most: int, default: int) -> int:
        value = self.values.get(column, default)
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # pandas turns integer columns with gaps into floats
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.invalid(column, f"{value!r} is not an integer from {least} to {most}")
        return value

    def number(self, column: str, least: float, most: float, default: float) -> float:
        value = self.values.get(column, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise self.invalid(column, f"{value!r} is not a number from {least} to {most}")
        return float(value)

    def choice(self, column: str, allowed: tuple[str, ...], default: str) -> str:
        value: Any = self.values.get(column, default)
        if value not in allowed:
            raise self.invalid(column, f"{value!r} is not one of {', '.join(allowed)}")
        return value

    def language(self) -> str | None:
        value = self.text("language")
        if value is not None and not re.fullmatch(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*", value):
            raise self.invalid("language", f"{value!r} is not a BCP-47 tag such as en, pt-BR or zh-Hant")
        return value

    def pose(self, base: str, model: FloatConfig) -> str | None:
        value = self.text("pose")
        if model.pose == "none":
            if value is not None:
                raise self.invalid(
                    "pose", "this model has no head pose condition: leave the column empty or use another model"
                )
            return None
        if value is None:
            raise ClipError(
                "value_missing",
                f"row {self.row}, column pose: a value is required, because this model is conditioned on head poses; "
                f"give a table ({', '.join(POSE_ARRAYS)}) or a video of a face ({', '.join(POSE_VIDEOS)})",
            )
        if not value.lower().endswith(POSE_ARRAYS + POSE_VIDEOS):
            allowed = ", ".join(POSE_ARRAYS + POSE_VIDEOS)
            raise self.invalid("pose", f"{value!r} is not a file of head poses: its name must end in {allowed}")
        return self.place("pose", resolve(base, value))

    def emotion(self, model: FloatConfig) -> dict[str, float] | None:
        value = self.values.get("emotion")
        if value is None:
            return None
        if isinstance(value, str):
            value = {value: 1.0}
        if isinstance(value, list) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in value):
            value = {str(name): weight for name, weight in value}  # this is how Arrow returns a map column
        if not isinstance(value, dict):
            raise self.invalid("emotion", f"{value!r} is neither an emotion nor a mapping of emotions to weights")
        # A struct column has every name in every row, with null where a row does not use it.
        weights = {name: weight for name, weight in value.items() if not is_absent(weight)}
        if not weights:
            return None
        unknown = [name for name in weights if name not in EMOTIONS]
        if unknown:
            raise self.invalid("emotion", f"{', '.join(map(repr, unknown))} is not one of {', '.join(EMOTIONS)}")
        for name, weight in weights.items():
            if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
                raise self.invalid("emotion", f"the weight {weight!r} of {name} is not a number of 0 or more")
        largest = max(weights.values())
        if largest == 0:
            raise self.invalid("emotion", f"the weights are all 0; leave the column empty to {_UNNAMED[model.emotion]}")
        if model.emotion == "none":
            raise self.invalid(
                "emotion", "this model has no emotion condition: leave the column empty or use another model"
            )
        shares = {name: weight / largest for name, weight in weights.items()}  # a sum of weights may overflow
        return {name: share / sum(shares.values()) for name, share in shares.items()}
