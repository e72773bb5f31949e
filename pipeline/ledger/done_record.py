"""Rows in done/: what a file there must be to count, and its name."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

import pyarrow as pa

from pipeline.ledger.columns import SCHEMA, ClipRow, with_names_of_now
from pipeline.measure.metrics import METRICS
from pipeline.media.presets import SUFFIXES
from pipeline.storage.set_aside import shortened

_NAME = re.compile(r"(?P<clip>.+)\.(?P<mark>[0-9a-f]{12}(-[1-9][0-9]*)?)", re.DOTALL)

_VIDEO = re.compile(
    r"(?P<stem>.+\.[0-9a-f]{12}(-[1-9][0-9]*)?)(\.[0-9a-f]{6}|\.[0-9a-f]{16})?"
    + f"({'|'.join(map(re.escape, SUFFIXES))})",
    re.DOTALL,
)

_TYPES: dict[str, tuple[type, ...]] = {
    field.name: (str,)
    if pa.types.is_string(field.type)
    else (int,)
    if pa.types.is_integer(field.type)
    else (int, float)
    if pa.types.is_floating(field.type)
    else (bool,)
    if pa.types.is_boolean(field.type)
    else (list,)
    for field in SCHEMA
}

_MEASURED: dict[str, tuple[type, ...]] = {
    "version": (str,),
    "figures": (dict,),
    "notes": (list,),
    "by_face": (list,),
    "seconds": (int, float),
}
"""Of quality control's measurements."""

REQUIRED = ("clip_id", "row", "fingerprint", "status", "uri", "committed")
"""Columns without which a row in done/ says nothing."""

_JUDGED = {metric.column for metric in METRICS} | {
    *("qc_status", "qc_reasons", "qc_messages", "qc_version", "qc_notes", "qc_faces", "qc_seconds"),
    *("review", "review_comment", "takes", "delivered", "video"),
}
"""Columns of the tables that are no part of a row in done/."""


def stem_of(clip_id: str, fingerprint: str) -> str:
    """Name of a clip's files in the output, without their suffixes; the end of a long clip_id becomes a hash in it."""
    return f"{shortened(clip_id)}.{fingerprint}"


def split_stem(stem: str) -> tuple[str, str] | None:
    """(clip_id, possibly shortened, fingerprint) of a name by `stem_of`; None for other names."""
    found = _NAME.fullmatch(stem)
    return None if found is None else (found["clip"], found["mark"])


def note_stem(name: str) -> str | None:
    """Name of the clip's files to which a note `<stem>.<stage>.json` in attempts/ belongs; None for other names."""
    stem = name.removesuffix(".json").rpartition(".")[0]
    return stem if name.endswith(".json") and split_stem(stem) else None


def stem_of_video(name: str) -> str | None:
    """Name of the clip's files to which a video `<stem>[.<hex>].mp4`, .mov or .mxf belongs; None for other names."""
    found = _VIDEO.fullmatch(name)
    return None if found is None else found["stem"]


def video_name(row: Mapping[str, Any]) -> str:
    """Name of a row's video in the folder `videos`; the output may have been moved since the row was written."""
    return str(row.get("uri") or "").rsplit("/", 1)[-1]


def problem_of(record: Mapping[str, Any], stem: str) -> str:
    """What is wrong with a JSON object that should be the row of `stem`, as a clause; empty if it is right."""
    row = with_names_of_now(record)
    if missing := [name for name in REQUIRED if row.get(name) is None]:
        return f"it has no {' and no '.join(missing)}"
    for name, value in row.items():
        kinds = _TYPES.get(name)
        wrong = kinds and value is not None and not isinstance(value, kinds)
        if wrong or (isinstance(value, bool) and kinds and bool not in kinds):
            return f"its {name} has the wrong type"
    if row["status"] != "done":
        return "its status is not done"
    if stem_of(row["clip_id"], row["fingerprint"]) != stem:
        return "it is the row of another clip"
    return ""


def problem_of_qc(measured: Mapping[str, Any]) -> str:
    """What is wrong with a JSON object that should be a video's measurements, as a clause; empty if it is right.

    It may be without some of them; `has_metrics` says whether quality control can use it.
    """
    for name, kinds in _MEASURED.items():
        if name in measured and not isinstance(measured[name], kinds):
            return f"its {name} has the wrong type"
    curves = measured.get("curves", {"mouth": [], "speech": [], "rate": 1.0})
    right = all(isinstance(curves.get(name), list) and _numbers(curves[name]) for name in ("mouth", "speech"))
    right = right and isinstance(curves.get("rate"), int | float) and _numbers(measured.get("figures", {}).values())
    return "" if right else "its figures or curves are not numbers"


def has_metrics(measured: Mapping[str, Any]) -> bool:
    """Whether measurements have what a row takes from them."""
    return {"version", "figures", "notes", "seconds"} <= measured.keys()


def _numbers(values: Iterable[Any]) -> bool:
    return all(value is None or isinstance(value, int | float) for value in values)


def record_of(row: ClipRow) -> ClipRow:
    """What the row of a table was in done/: without what quality control and reviewers have added to it."""
    return cast(ClipRow, {name: value for name, value in row.items() if name not in _JUDGED})
