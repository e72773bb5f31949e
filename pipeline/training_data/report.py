"""report.html and samples.jpg: counts, and a picture of what was accepted and of what was dropped for which reason."""

import base64
import html
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from pipeline.media.contact_sheet import WHITE, Tile, contact_sheet, in_rows, jpeg
from pipeline.storage.objects import join, read_bytes, write_bytes
from pipeline.training_data.places import Places
from pipeline.training_data.reasons import REASONS
from pipeline.training_data.shards import SPLITS
from pipeline.training_data.summary import Counts, duration
from pipeline.training_data.track import THUMBNAIL

REPORT, SHEET = "report.html", "samples.jpg"

TILES, ACROSS = 48, 8
ACCEPTED = "accepted"
SHOWN_SPEAKERS = 100

BLACK, GREEN, RED, GREY = (0, 0, 0), (46, 125, 50), (198, 40, 40), (90, 90, 90)


class Picked:
    """Takes rows as they come and keeps some to show: half accepted, half dropped, each reason about as often."""

    def __init__(self) -> None:
        self._rows: dict[str, list[dict[str, Any]]] = defaultdict(list)

    def add(self, row: dict[str, Any]) -> None:
        """Look at a row; of each group those with a picture come first, then those of videos not shown yet."""
        group = self._rows[row["reason"] or ACCEPTED]
        if row.get("tile") is None and row["reason"] and len(group) >= 4:
            return
        if len(group) < TILES:
            group.append(row)

    def rows(self) -> list[tuple[str, dict[str, Any]]]:
        """At most `TILES` of (group, row), grouped."""
        reasons = sorted(set(self._rows) - {ACCEPTED})
        share = max(1, TILES // 2 // max(1, len(reasons)))
        dropped = [(code, row) for code in reasons for row in _spread(self._rows[code], share)][: TILES // 2]
        return [(ACCEPTED, row) for row in _spread(self._rows[ACCEPTED], TILES - len(dropped))] + dropped


def _spread(rows: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """At most `count`, first one of each video, then more."""
    turn: dict[str, int] = defaultdict(int)
    ranked = []
    for index, row in enumerate(rows):
        ranked.append((row.get("tile") is None, turn[row["key"]], index))
        turn[row["key"]] += 1
    return [rows[index] for _, _, index in sorted(sorted(ranked)[:count], key=lambda rank: rank[2])]


def samples_sheet(picked: Sequence[tuple[str, dict[str, Any]]], places: Places) -> bytes:
    """JPEG: one tile per row with its clip id and reason below; a green frame is accepted, a red one dropped."""
    strips: dict[str, Image.Image | None] = {}
    tiles = []
    for group, row in picked:
        colour = GREEN if group == ACCEPTED else RED
        when = "" if row.get("start") is None else f"{row['start']:.1f} to {row['end']:.1f} s"
        notes = ((row["clip_id"], BLACK), (group, colour), (when, GREY))
        tiles.append(Tile(_picture(row, strips, places), notes=notes, outline=colour))
    return jpeg(contact_sheet(in_rows(tiles, ACROSS), side=THUMBNAIL, line=16, margin=8, ground=WHITE))


def _picture(row: dict[str, Any], strips: dict[str, Image.Image | None], places: Places) -> np.ndarray | None:
    if row.get("tile") is None:
        return None
    key = row["key"]
    if key not in strips:
        data = read_bytes(places.tiles(key))
        strips[key] = Image.open(io.BytesIO(data)) if data else None
    strip = strips[key]
    left = row["tile"] * THUMBNAIL
    return None if strip is None else np.asarray(strip.crop((left, 0, left + THUMBNAIL, THUMBNAIL)))


POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1120px; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; margin: .5em 0 1.5em } td, th { padding: .2em .8em; text-align: left }
th { border-bottom: 1px solid #999 } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums }
img { max-width: 100% } .note { background: #fff3cd; padding: .4em .8em }
"""


def write_report(places: Places, counts: Counts, picked: Picked, title: str) -> str:
    """Write both files; the URI of the page, which holds the picture too and needs no network."""
    chosen = picked.rows()
    picture = samples_sheet(chosen, places)
    write_bytes(picture, join(places.output, SHEET))
    reasons = [
        (code, count, f"{counts.dropped_seconds[code]:.0f}", REASONS[code])
        for code, count in counts.reasons.most_common()
    ]
    splits = [
        (
            split,
            sum(one == split for one, _ in counts.speakers),
            counts.split_clips[split],
            duration(counts.seconds[split]),
        )
        for split in SPLITS
    ]
    most = sorted(counts.speakers.items(), key=lambda item: -item[1])[:SHOWN_SPEAKERS]
    speakers = [(speaker, split, duration(seconds)) for (split, speaker), seconds in most]
    more = len(counts.speakers) - len(speakers)
    methods = ", ".join(f"{name} {count}" for name, count in sorted(counts.av_methods.items()))
    page = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        f'<meta http-equiv=Content-Security-Policy content="{POLICY}">',
        f"<title>Training data</title><style>{STYLE}</style><h1>Training data</h1><p>{html.escape(title)}</p>",
        f"<p><b>{duration(counts.seconds_in_all)}</b> (hours, minutes, seconds) in {counts.clips['accepted']} samples; "
        f"{counts.clips['dropped']} parts of videos dropped. Offset between lips and sound measured by: "
        f"{html.escape(methods or 'nothing')}.</p>",
        *(f"<p class=note>{html.escape(warning)}</p>" for warning in counts.warnings()),
        "<h2>Splits, by speaker</h2>",
        _table(("split", "speakers", "samples", "time"), splits),
        "<h2>Dropped</h2>",
        _table(("reason", "parts", "seconds", "meaning"), reasons) if reasons else "<p>Nothing.</p>",
        f"<h2>Some of each</h2><p>{len(chosen)} of {counts.clips.total()}: green frames are accepted and show "
        "the crop, red ones are dropped and show the whole picture.</p>",
        f'<img alt="accepted and dropped samples" src="data:image/jpeg;base64,{base64.b64encode(picture).decode()}">',
        "<h2>Speakers</h2>",
        _table(("speaker", "split", "time"), speakers),
        f"<p>and {more} more: see samples.parquet</p>" if more > 0 else "",
        "</html>\n",
    ]
    uri = join(places.output, REPORT)
    write_bytes("\n".join(page).encode(), uri)
    return uri


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    numbers = ("speakers", "samples", "time", "parts", "seconds")
    kinds = [" class=n" if name in numbers else "" for name in head]
    cells = [f"<th{kind}>{name}</th>" for name, kind in zip(head, kinds, strict=True)]
    body = [
        "".join(f"<td{kind}>{html.escape(str(value))}</td>" for value, kind in zip(row, kinds, strict=True))
        for row in rows
    ]
    return f"<table><tr>{''.join(cells)}</tr>{''.join(f'<tr>{line}</tr>' for line in body)}</table>"
