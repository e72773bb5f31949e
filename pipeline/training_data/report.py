"""report.html and samples.jpg: counts, and examples of what was accepted and of what was dropped, by reason."""

import io
import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from pipeline.media.contact_sheet import WHITE, Tile, contact_sheet, in_rows, jpeg
from pipeline.report.html import document, embedded_image, escaped, made_now, paragraph, text_table
from pipeline.storage.objects import read_bytes, write_bytes
from pipeline.storage.records import DamagedError, reading
from pipeline.storage.uris import join
from pipeline.training_data.places import Places
from pipeline.training_data.reasons import REASONS
from pipeline.training_data.shards import SPLITS
from pipeline.training_data.summary import Counts, duration
from pipeline.training_data.track import THUMBNAIL

REPORT, SHEET = "report.html", "samples.jpg"

TILES, ACROSS = 48, 8
ACCEPTED = "accepted"
SHOWN_SPEAKERS = 100

logger = logging.getLogger(__name__)

BLACK, GREEN, RED, GREY = (0, 0, 0), (46, 125, 50), (198, 40, 40), (90, 90, 90)


class Picked:
    """Takes rows as they arrive and keeps some to show: half accepted, half dropped, with the reasons about equally
    often.
    """

    def __init__(self) -> None:
        self._rows: dict[str, list[dict[str, Any]]] = defaultdict(list)

    def add(self, row: dict[str, Any]) -> None:
        """Look at a row; within a group, rows with a thumbnail come first, then those of videos that are not
        shown yet.
        """
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
    """At most `count` rows, first one of each video, then more."""
    turn: dict[str, int] = defaultdict(int)
    ranked = []
    for index, row in enumerate(rows):
        ranked.append((row.get("tile") is None, turn[row["key"]], index))
        turn[row["key"]] += 1
    return [rows[index] for _, _, index in sorted(sorted(ranked)[:count], key=lambda rank: rank[2])]


def samples_sheet(picked: Sequence[tuple[str, dict[str, Any]]], places: Places) -> bytes:
    """JPEG with one tile per row and its clip id and reason below.

    Green frames are accepted, red frames are dropped.
    """
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
        strips[key] = _strip(places.tiles(key))
    strip = strips[key]
    left = row["tile"] * THUMBNAIL
    return None if strip is None else np.asarray(strip.crop((left, 0, left + THUMBNAIL, THUMBNAIL)))


def _strip(uri: str) -> Image.Image | None:
    """The thumbnails of a video; None if there are none, or if they are damaged, which the log says."""
    try:
        with reading(uri, "an image"):
            data = read_bytes(uri)
            strip = Image.open(io.BytesIO(data)) if data is not None else None
            if strip is not None:
                strip.load()
            return strip
    except DamagedError as error:
        logger.warning("%s: the report leaves these thumbnails out", error.found)
        return None


def write_report(places: Places, counts: Counts, picked: Picked, about: Sequence[tuple[str, object]]) -> str:
    """Write both files and return the URI of the page, which contains the image and uses no network.

    `about`: what the samples were made from, as (name, value).
    """
    chosen = picked.rows()
    sheet = samples_sheet(chosen, places)
    write_bytes(sheet, join(places.output, SHEET))
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
    parts = [
        f"<p><b>{duration(counts.seconds_in_all)}</b> (hours, minutes, seconds) in {counts.clips['accepted']} "
        f"samples; {counts.clips['dropped']} parts of videos were dropped. The offset between lips and audio was "
        f"measured by: {escaped(methods or 'nothing')}.</p>",
        *(paragraph(warning, "note") for warning in counts.warnings()),
        "<h2>Splits, by speaker</h2>",
        text_table("Splits, by speaker", ("split", "speakers", "samples", "time"), splits, (1, 2, 3)),
        "<h2>Dropped</h2>",
        _dropped(reasons),
        f"<h2>Examples</h2><p>{len(chosen)} of {counts.clips.total()}: green frames are accepted and show the crop, "
        "red frames are dropped and show the whole frame.</p>",
        embedded_image("accepted and dropped samples", sheet),
        "<h2>Speakers</h2>",
        text_table("Speakers", ("speaker", "split", "time"), speakers, (2,)),
        f"<p>and {more} more: see samples.parquet</p>" if more > 0 else "",
    ]
    uri = join(places.output, REPORT)
    write_bytes(
        document("Training data", parts, [*about, ("output", places.output), ("run", places.run), made_now()]).encode(),
        uri,
    )
    return uri


def _dropped(reasons: Sequence[Sequence[object]]) -> str:
    if not reasons:
        return "<p>Nothing.</p>"
    return text_table("Dropped", ("reason", "parts", "seconds", "meaning"), reasons, (1, 2))
