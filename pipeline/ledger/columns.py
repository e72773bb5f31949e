"""The columns of the output table in one place: names, types and meanings.

The Parquet schema and the table in `jobs/README.md` are generated from `ClipRow`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypedDict, cast, get_args, get_origin, get_type_hints

import pyarrow as pa

from pipeline.measure.metrics import METRICS

RENAMED = {"attempt": "worker_attempt"}
"""Column name in an earlier version -> its current name, under which rows of old outputs are read."""


class ClipRow(TypedDict, total=False):
    """What became of one planned clip. A column without a value is null.

    The metrics of quality control follow `review_comment`, and the manifest's own columns come last.
    """

    clip_id: Annotated[str, "Name of the clip, unique within its manifest."]
    row: Annotated[int, "Row number in the manifest, starting at 1."]
    status: Annotated[
        str, "`done`, `failed` (another try may help), `rejected` (the input must change) or `quarantined`."
    ]
    error_code: Annotated[str, "Stable error code (`pipeline/common/errors.py`)."]
    error_message: Annotated[str, "What was found, and what to change."]
    uri: Annotated[str, "The delivered video."]
    fingerprint: Annotated[str, "Identity of inputs and settings; equal as long as the same video would be rendered."]
    worker_attempt: Annotated[int, "2 if a worker had died with this clip earlier in the run, otherwise 1."]
    committed: Annotated[float, "Time at which the clip was done: seconds since 1970, UTC."]
    take: Annotated[int, "Number of the delivered take; each take has another seed."]
    takes: Annotated[int, "Number of takes."]
    qc_status: Annotated[str, "Verdict of quality control: `pass`, `review` or `fail`."]
    qc_reasons: Annotated[list[str], "Codes of the metrics that are beyond a limit."]
    qc_messages: Annotated[list[str], "The same as sentences."]
    review: Annotated[str, "Verdict of a reviewer on this take: `approved` or `retake`."]
    review_comment: Annotated[str, "The reviewer's comment."]
    qc_version: Annotated[str, "Version of the measurements."]
    qc_notes: Annotated[list[str], "What could not be measured, and why."]
    qc_faces: Annotated[str | None, "JSON list of the metrics of each of several faces; the columns have the worst."]
    qc_seconds: Annotated[float, "Time that quality control took, s."]
    image: Annotated[str, "The portrait."]
    audio: Annotated[str | None, "The speech; null for a clip without speech, or with several faces."]
    seconds: Annotated[float | None, "Length of a clip without speech: the manifest's `seconds`."]
    language: Annotated[str | None, "Value of the manifest."]
    speaker: Annotated[str | None, "Value of the manifest."]
    emotion: Annotated[str | None, "JSON {name: weight} given to the model, or list of spans; null if it takes none."]
    emotion_source: Annotated[
        str, "Where it is from, outside of spans: `manifest`, `speech`, `image`, `neutral`, `none`."
    ]
    emotion_fade: Annotated[float | None, "Cross-fade at the ends of spans, s; null without spans."]
    silence: Annotated[str | None, "`model`, `closed` or `idle` in pauses of the audio, or list of spans."]
    pose: Annotated[str | None, "File of head poses; with spans JSON, a list of them and the file."]
    pose_source: Annotated[str | None, "Kind of that file: `array` or `video`."]
    pose_fade: Annotated[float | None, "Time in which the head turns at the ends of spans, s; null without spans."]
    seed: Annotated[int, "Seed of the motion noise."]
    nfe: Annotated[int, "Evaluations of the transformer per window of 2 s."]
    solver: Annotated[str, "Sampler of the motion."]
    engine: Annotated[str, "How motion and frames were computed: mode, precision and batch of decoder and field."]
    engine_psnr: Annotated[
        float | None, "Worst frame of that engine's test against plain float32, dB; null if it was not tuned."
    ]
    engine_fps: Annotated[
        float | None, "Frames per second that it sampled and decoded when it was chosen; null if it was not tuned."
    ]
    a_cfg_scale: Annotated[float, "Guidance by audio."]
    e_cfg_scale: Annotated[float, "Guidance by emotion."]
    r_cfg_scale: Annotated[float, "Guidance by the reference motion."]
    crop: Annotated[str, "`auto` or `none`."]
    frame: Annotated[str, "`crop` (the animated square) or `full` (in the original picture)."]
    face: Annotated[str | None, "Which face was asked for: `largest`, `only`, a number, a point or a box."]
    faces: Annotated[
        str | None, "JSON list of the faces that were asked for, with a sound each; null for a clip of one face."
    ]
    faces_animated: Annotated[str | None, "JSON list of these faces as they were rendered: box, square, emotion, seed."]
    timecode: Annotated[str | None, "SMPTE time code of the first frame, as the file has it."]
    timecode_after: Annotated[str | None, "The time code that follows the last frame: that of the next slot."]
    programme: Annotated[str | None, "Name of the programme that the clip is a part of."]
    programme_frame: Annotated[int | None, "Number of its first frame, from the start of the programme, from 0."]
    continues: Annotated[
        str | None, "clip_id and fingerprint of the take that it goes on from; null if it begins anew."
    ]
    gap_after: Annotated[str | None, "For a row that fills a gap of its programme: clip_id of the row before the gap."]
    title: Annotated[str | None, "Title of the file: the manifest's; null if it is the clip_id."]
    audio_tracks: Annotated[str | None, "Further audio tracks of the file, as the manifest has them (JSON)."]
    timecode_wanted: Annotated[str | None, "Which was asked for: the manifest's `timecode`."]
    frames_wanted: Annotated[int | None, "Which number of frames was asked for: the manifest's `frames`."]
    on_length: Annotated[str | None, "For rows with `frames`: `refuse`, `pad` or `trim` audio of another length."]
    consent_ref: Annotated[str | None, "Reference of the speaker's consent."]
    model: Annotated[str, "Name of the model that rendered the clip."]
    model_hash: Annotated[str, "SHA-256 over the model's weights."]
    model_trained: Annotated[bool, "False for a model with random weights."]
    provenance: Annotated[str, "How the file is marked as AI-generated: `xmp`, `xmp+c2pa`, or `comment` (MXF)."]
    preset: Annotated[str, "Delivery preset of the file."]
    preset_wanted: Annotated[str | None, "Which was asked for: the manifest's `preset`; null: `video.preset`."]
    sha256: Annotated[str, "SHA-256 of the delivered file."]
    bytes: Annotated[int, "Size of the delivered file."]
    width: Annotated[int, "Width of the video, px."]
    height: Annotated[int, "Height of the video, px."]
    square: Annotated[list[float], "Left, top and side of the animated square in a full frame, px."]
    upscale: Annotated[float, "Side of that square, divided by that of the model's frames."]
    source_sha256: Annotated[str, "SHA-256 of the image file, if frame is `full`."]
    frames: Annotated[int, "Number of frames in the video: ceil(duration of the audio x fps), or what the row gives."]
    fps: Annotated[float, "Frames per second."]
    duration: Annotated[float, "Duration of the video, s."]
    audio_duration: Annotated[float, "Duration of the input audio, s."]
    audio_stream: Annotated[str | None, "Which of several audio streams was used, and why; null for a file with one."]
    audio_stream_wanted: Annotated[str | None, "Which was asked for: the manifest's `audio_stream`."]
    faces_found: Annotated[int, "Number of faces in the portrait."]
    face_box: Annotated[list[float], "Left, top, right and bottom edge of the chosen face in the upright image, px."]
    portrait_turn: Annotated[int, "Degrees by which the image was turned clockwise to make its largest face upright."]
    image_frame: Annotated[int, "Number of the frame that was used, from 1, if the image is an animation."]
    input_notes: Annotated[list[str], "Codes of what was noticed about the inputs (`pipeline/common/notes.py`)."]
    input_messages: Annotated[list[str], "The same as sentences."]
    load_seconds: Annotated[float, "Wall-clock time for fetching, decoding and cropping the inputs, s."]
    speech_seconds: Annotated[float, "Time for the speech encoders."]
    portrait_seconds: Annotated[float, "Time for encoding the portrait."]
    sample_seconds: Annotated[float, "The clip's share of the sampling rounds that it took part in."]
    decode_seconds: Annotated[float, "Time for decoding its frames."]
    encoder_wait_seconds: Annotated[float, "Time that its frames waited until the video encoders took others."]
    delivery_wait_seconds: Annotated[float, "Time that its frames waited until earlier clips were delivered."]
    finish_seconds: Annotated[float, "Time for the rest of encoding, verification and upload."]
    worker: Annotated[str, "Host that rendered the clip."]
    other_columns: Annotated[str | None, "JSON {name: value} of the manifest's own columns beyond the first 256."]


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
            yield from (Column(metric.column, pa.float64(), metric.text) for metric in METRICS)


def _arrow(kind: Any) -> pa.DataType:
    if type(None) in get_args(kind):  # every column may be null
        kind = next(part for part in get_args(kind) if part is not type(None))
    return pa.list_(ARROW[get_args(kind)[0]]) if get_origin(kind) is list else ARROW[kind]


COLUMNS = tuple(_columns())
SCHEMA = pa.schema([(column.name, column.type) for column in COLUMNS])
"""The columns of the output table that do not come from the manifest."""
OURS = frozenset(SCHEMA.names)


def column_table() -> str:
    """All columns except the metrics, as Markdown, for `jobs/README.md`."""
    metrics = {metric.column for metric in METRICS}
    lines = ["| column | type | meaning |", "|---|---|---|"]
    for column in COLUMNS:
        if column.name not in metrics:
            kind = str(column.type).replace("list<item: ", "list of ").rstrip(">")
            lines.append(f"| `{column.name}` | {kind} | {column.text} |")
    return "\n".join(lines) + "\n"


def with_names_of_now(row: Mapping[str, Any]) -> ClipRow:
    """A row that an earlier version wrote, with the current names of its columns."""
    return cast(ClipRow, {RENAMED.get(name, name): value for name, value in row.items()})


def extended(row: ClipRow, more: Mapping[str, Any]) -> ClipRow:
    """A row with more values; the names of metrics and of the manifest's own columns are in no type."""
    return cast(ClipRow, dict(row) | dict(more))


def values_of(row: ClipRow) -> dict[str, Any]:
    """A row under names that are only known when the program runs: of steps, metrics and the manifest's columns."""
    return cast(dict[str, Any], row)
