"""The status row: what became of one planned clip. Every clip ends with exactly one."""

import json
import logging
import socket
from typing import Any

import pyarrow as pa

from models import EMOTIONS
from pipeline.common.errors import ClipError
from pipeline.common.redaction import redacted
from pipeline.manifest.clip import Clip
from pipeline.manifest.reader import Rejected
from pipeline.measure.metrics import FIGURES

logger = logging.getLogger(__name__)

StatusRow = dict[str, Any]
"""A row of the output table: columns of `SCHEMA`, then the manifest's own extra columns."""

RENDER_STEPS = ("portrait", "sample", "decode", "encoder_wait")
"""What keeps a render worker from taking the next clip; the rest of a clip's time is spent beside it."""

STEPS = ("load", "speech", *RENDER_STEPS, "finish")
"""Steps of a clip; each has a column `<step>_seconds`."""

_COLUMNS: list[tuple[str, Any]] = [
    ("clip_id", pa.string()),
    ("row", pa.int64()),
    ("status", pa.string()),
    ("error_code", pa.string()),
    ("error_message", pa.string()),
    ("uri", pa.string()),
    ("fingerprint", pa.string()),
    ("attempt", pa.int64()),  # 2 where a worker died with the clip before, in this run
    ("committed", pa.float64()),  # seconds since 1970, UTC
    ("take", pa.int64()),  # which attempt is delivered: each has another seed (pipeline.qc.retakes)
    ("takes", pa.int64()),  # how many there are
    # Quality control
    ("qc_status", pa.string()),  # pass | review | fail
    ("qc_reasons", pa.list_(pa.string())),
    ("qc_messages", pa.list_(pa.string())),
    ("review", pa.string()),  # approved | retake: a person's word on this take
    ("review_comment", pa.string()),
    *((figure.column, pa.float64()) for figure in FIGURES),
    ("qc_version", pa.string()),
    ("qc_notes", pa.list_(pa.string())),  # what could not be measured
    ("qc_seconds", pa.float64()),
    # Inputs and settings as used
    ("image", pa.string()),
    ("audio", pa.string()),
    ("language", pa.string()),
    ("speaker", pa.string()),
    ("emotion", pa.string()),  # JSON {name: weight}, the weights that the model got; null where it takes none
    ("emotion_source", pa.string()),  # manifest | speech | image | none
    ("pose", pa.string()),  # the file of head poses
    ("pose_source", pa.string()),  # array | video
    ("seed", pa.int64()),
    ("nfe", pa.int64()),
    ("solver", pa.string()),
    ("a_cfg_scale", pa.float64()),
    ("e_cfg_scale", pa.float64()),
    ("r_cfg_scale", pa.float64()),
    ("crop", pa.string()),
    ("consent_ref", pa.string()),
    ("model", pa.string()),
    ("model_hash", pa.string()),
    ("model_trained", pa.bool_()),
    # The delivered file
    ("provenance", pa.string()),  # xmp | xmp+c2pa
    ("sha256", pa.string()),
    ("bytes", pa.int64()),
    ("width", pa.int64()),
    ("height", pa.int64()),
    ("frames", pa.int64()),
    ("fps", pa.float64()),
    ("duration", pa.float64()),  # s, of the video stream
    ("audio_duration", pa.float64()),  # s, of the input
    ("faces_found", pa.int64()),
    ("face_box", pa.list_(pa.float64())),  # left, top, right, bottom in the upright image, px
    # Wall-clock seconds per step, and where it ran
    ("load_seconds", pa.float64()),
    ("speech_seconds", pa.float64()),
    ("portrait_seconds", pa.float64()),
    ("sample_seconds", pa.float64()),  # the clip's share of the rounds that it was sampled in
    ("decode_seconds", pa.float64()),
    ("encoder_wait_seconds", pa.float64()),  # that decoding waited for the clip's encoder
    ("finish_seconds", pa.float64()),  # rest of encoding, verification, upload
    ("worker", pa.string()),
]

SCHEMA = pa.schema(_COLUMNS)
"""Columns of the output table that are ours."""


def clip_row(clip: Clip) -> StatusRow:
    """Row with the clip's inputs and settings, and the manifest's own columns; no status yet."""
    own = {name: value for name, value in clip.extra.items() if name not in SCHEMA.names}
    tags = {} if clip.tags is None else {"tags": clip.tags}
    return {
        "clip_id": clip.clip_id,
        "row": clip.row,
        "fingerprint": clip.fingerprint,
        "image": clip.image,
        "audio": clip.audio,
        "language": clip.language,
        "speaker": clip.speaker,
        "emotion": emotion_text(clip.emotion),
        "emotion_source": clip.emotion_from if clip.emotion is None else "manifest",
        "pose": clip.pose,
        "pose_source": clip.pose_source,
        "take": take_of({"fingerprint": clip.fingerprint}),
        "seed": clip.seed,
        "nfe": clip.nfe,
        "a_cfg_scale": clip.a_cfg_scale,
        "e_cfg_scale": clip.e_cfg_scale,
        "r_cfg_scale": clip.r_cfg_scale,
        "crop": clip.crop,
        "consent_ref": clip.consent_ref,
        "worker": socket.gethostname(),
        **tags,
        **own,
    }


def take_of(row: StatusRow) -> int:
    """Number of the take, from the fingerprint: `0123456789ab-2` is the second one of `0123456789ab`."""
    number = str(row.get("fingerprint") or "").partition("-")[2]
    return int(number) if number else 1


def plan_mark(fingerprint: str) -> str:
    """Fingerprint of the planned clip that a take belongs to."""
    return fingerprint.partition("-")[0]


def error_row(clip: Clip, error: Exception, stage: str = "") -> StatusRow:
    """Row of a clip that ended with an error.

    Anything but a ClipError is a bug of ours: it is logged with its traceback and becomes `internal_error`, naming the
    `stage` that it happened in, so that the other clips go on.
    """
    if not isinstance(error, ClipError):
        logger.error("%s of clip %s", stage, clip.clip_id, exc_info=error)
        error = ClipError("internal_error", f"{stage}: {type(error).__name__}: {error}")
    return clip_row(clip) | _error_columns(error)


def rejected_row(rejected: Rejected) -> StatusRow:
    """Row of a manifest row that never became a clip; values of the wrong type stay in the message."""
    texts = ("image", "audio", "pose", "language", "speaker", "crop", "consent_ref")
    inputs = {name: redacted(value) for name in texts if isinstance(value := rejected.values.get(name), str)}
    own = {name: value for name, value in rejected.values.items() if name not in SCHEMA.names}
    return {"clip_id": rejected.clip_id, "row": rejected.row, **inputs, **_error_columns(rejected.error), **own}


def emotion_text(emotion: dict[str, float] | None) -> str | None:
    """{name: weight} as JSON, strongest first; None where there is none."""
    if not emotion:
        return None
    strongest_first = sorted(emotion.items(), key=lambda item: -item[1])
    return json.dumps({name: round(float(weight), 4) for name, weight in strongest_first})


def emotion_weights(vector: Any) -> dict[str, float]:
    """w_e (7,) -> {name: weight}, without the zeros."""
    return {name: float(weight) for name, weight in zip(EMOTIONS, vector, strict=True) if weight > 0}


def _error_columns(error: ClipError) -> StatusRow:
    return {"status": error.status, "error_code": error.code, "error_message": error.message}
