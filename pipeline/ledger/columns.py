"""The columns of the output table, in one place: names, types and what they say.

The Parquet schema and the table in `jobs/README.md` are made from `ClipRow`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict, get_args, get_origin, get_type_hints

import pyarrow as pa

from pipeline.measure.metrics import FIGURES

RENAMED = {"attempt": "worker_attempt"}
"""Column of an earlier version -> its name of now: rows of its outputs are read under that."""


class ClipRow(TypedDict, total=False):
    """What became of one planned clip. A column without a value is null.

    The metrics of quality control follow `review_comment`, and the manifest's own columns come last.
    """

    clip_id: Annotated[str, "Name of the clip, unique in its manifest."]
    row: Annotated[int, "Number of its row in the manifest, from 1."]
    status: Annotated[str, "`done`, `failed` (another try may help), `rejected` (change the input) or `quarantined`."]
    error_code: Annotated[str, "Stable code of what went wrong (`pipeline/common/errors.py`)."]
    error_message: Annotated[str, "What was found, and what to change."]
    uri: Annotated[str, "The delivered video."]
    fingerprint: Annotated[str, "Identity of inputs and settings; the same as long as the same video would come out."]
    worker_attempt: Annotated[int, "2 where a worker had died with the clip before, in this run; else 1."]
    committed: Annotated[float, "When the clip was done: seconds since 1970, UTC."]
    take: Annotated[int, "Which take is delivered; each has another seed."]
    takes: Annotated[int, "How many takes there are."]
    qc_status: Annotated[str, "Verdict of quality control: `pass`, `review` or `fail`."]
    qc_reasons: Annotated[list[str], "Codes of what is beyond its limit."]
    qc_messages: Annotated[list[str], "The same in sentences."]
    review: Annotated[str, "A person's verdict on this take: `approved` or `retake`."]
    review_comment: Annotated[str, "What the person said of it."]
    qc_version: Annotated[str, "Version of the measurements."]
    qc_notes: Annotated[list[str], "What could not be measured, and why."]
    qc_seconds: Annotated[float, "Time that quality control took, s."]
    image: Annotated[str, "The portrait."]
    audio: Annotated[str, "The speech."]
    language: Annotated[str, "As the manifest says."]
    speaker: Annotated[str, "As the manifest says."]
    emotion: Annotated[str, "JSON {name: weight}: the weights that the model got; null where it takes none."]
    emotion_source: Annotated[str, "`manifest`, `speech`, `image` or `none`."]
    pose: Annotated[str, "The file of head poses."]
    pose_source: Annotated[str, "`array` or `video`."]
    seed: Annotated[int, "Seed of the motion noise."]
    nfe: Annotated[int, "Evaluations of the transformer per window of 2 s."]
    solver: Annotated[str, "How motion was sampled."]
    a_cfg_scale: Annotated[float, "Guidance by audio."]
    e_cfg_scale: Annotated[float, "Guidance by emotion."]
    r_cfg_scale: Annotated[float, "Guidance by the reference motion."]
    crop: Annotated[str, "`auto` or `none`."]
    consent_ref: Annotated[str, "Reference of the speaker's consent."]
    model: Annotated[str, "Name of the model that rendered the clip."]
    model_hash: Annotated[str, "SHA-256 over its weights."]
    model_trained: Annotated[bool, "False for a model with random weights."]
    provenance: Annotated[str, "How the file is marked as AI-generated: `xmp` or `xmp+c2pa`."]
    sha256: Annotated[str, "Of the delivered file."]
    bytes: Annotated[int, "Size of the delivered file."]
    width: Annotated[int, "Of the video, px."]
    height: Annotated[int, "Of the video, px."]
    frames: Annotated[int, "Frames of the video: ceil(duration of the audio x fps)."]
    fps: Annotated[float, "Frames a second."]
    duration: Annotated[float, "Of the video, s."]
    audio_duration: Annotated[float, "Of the input audio, s."]
    faces_found: Annotated[int, "Faces in the portrait; the largest is taken."]
    face_box: Annotated[list[float], "Its left, top, right and bottom edge in the upright image, px."]
    load_seconds: Annotated[float, "Wall-clock time of fetching, decoding and cropping the inputs, s."]
    speech_seconds: Annotated[float, "Of the speech encoders."]
    portrait_seconds: Annotated[float, "Of encoding the portrait."]
    sample_seconds: Annotated[float, "The clip's share of the rounds that it was sampled in."]
    decode_seconds: Annotated[float, "Of decoding its frames."]
    encoder_wait_seconds: Annotated[float, "Of waiting for the clip's video encoder."]
    finish_seconds: Annotated[float, "Of the rest of encoding, verification and upload."]
    worker: Annotated[str, "Host that rendered the clip."]


@dataclass(frozen=True)
class Column:
    """One column of the table."""

    name: str
    type: pa.DataType
    text: str


ARROW: dict[type, pa.DataType] = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def _columns() -> Iterator[Column]:
    for name, hint in get_type_hints(ClipRow, include_extras=True).items():
        kind, text = get_args(hint)
        yield Column(name, _arrow(kind), text)
        if name == "review_comment":
            yield from (Column(figure.column, pa.float64(), figure.text) for figure in FIGURES)


def _arrow(kind: Any) -> pa.DataType:
    return pa.list_(ARROW[get_args(kind)[0]]) if get_origin(kind) is list else ARROW[kind]


COLUMNS = tuple(_columns())
SCHEMA = pa.schema([(column.name, column.type) for column in COLUMNS])
"""Columns of the output table that are ours."""


def column_table() -> str:
    """All columns but those of the metrics, as Markdown: `jobs/README.md` has it."""
    metrics = {figure.column for figure in FIGURES}
    lines = ["| column | type | what it says |", "|---|---|---|"]
    for column in COLUMNS:
        if column.name not in metrics:
            kind = str(column.type).replace("list<item: ", "list of ").rstrip(">")
            lines.append(f"| `{column.name}` | {kind} | {column.text} |")
    return "\n".join(lines) + "\n"


def with_names_of_now(row: dict[str, Any]) -> dict[str, Any]:
    """A row that an earlier version wrote, under the names that its columns have now."""
    return {RENAMED.get(name, name): value for name, value in row.items()}
