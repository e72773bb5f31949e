"""Programmes of a finished output: one file of all rows of each, in their order."""

import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av

from pipeline.common.errors import ClipError, RefusedError
from pipeline.ledger.columns import ClipRow, values_of
from pipeline.ledger.done_record import video_name
from pipeline.ledger.ledger import VIDEOS
from pipeline.manifest.programme import Member, Programme, ordered
from pipeline.manifest.values import number_of
from pipeline.media.file_faults import frame_rate
from pipeline.media.joined import Piece, check_alike, format_of, join_videos
from pipeline.media.mp4 import verify_video
from pipeline.media.timecode import parse_timecode
from pipeline.media.xmp import comment, mark, tags_of_mark
from pipeline.run.deliver import Choice, why_not
from pipeline.storage.objects import create_file, fetched, put_file
from pipeline.storage.uris import join

SHOWN = 5
"""Rows that a refusal names."""


@dataclass
class Joined:
    """What became of a programme."""

    name: str
    clips: int = 0
    frames: int = 0
    uri: str = ""
    """Its file; empty if it was not written."""
    why: str = ""
    """Why it was not."""
    notes: list[str] = field(default_factory=list)
    """What a person should look at."""


def programmes_of(rows: Iterable[ClipRow], wanted: Collection[str]) -> dict[str, list[ClipRow]]:
    """The rows of each programme, in the order of the table. Raises RefusedError if a `wanted` one is not there, or
    if there is none at all.
    """
    found: dict[str, list[ClipRow]] = defaultdict(list)
    for row in rows:
        if name := row.get("programme"):
            found[name].append(row)
    if missing := [name for name in wanted if name not in found]:
        raise RefusedError(f"programme: the output has no programme {', '.join(map(repr, missing[:SHOWN]))}")
    if not found:
        raise RefusedError("output: no row of its table is in a programme: fill in the column programme")
    return {name: found[name] for name in found if not wanted or name in wanted}


class Joiner:
    """Writes joined files into a folder."""

    def __init__(self, output: str, to: str, only: Choice, *, kbps: int, replace: bool) -> None:
        self._output, self._to, self._only, self._kbps, self._replace = output, to, only, kbps, replace

    def join(self, name: str, rows: Sequence[ClipRow]) -> Joined:
        """Join the rows of a programme, if that is possible; otherwise the result says why not."""
        joined = Joined(name, len(rows))
        try:
            self._join(joined, rows)
        except (RefusedError, ClipError) as error:
            joined.why = str(error)
        except (FileNotFoundError, av.FFmpegError):
            joined.why = "a video is gone or damaged: run the render command again"
        return joined

    def _join(self, joined: Joined, rows: Sequence[ClipRow]) -> None:
        if left := [f"{row['clip_id']} ({reason})" for row in rows if (reason := self._why_not(row))]:
            more = f" and {len(left) - SHOWN} more" if len(left) > SHOWN else ""
            raise RefusedError(f"{', '.join(left[:SHOWN])}{more}: a programme is joined when all of its rows are ready")
        with tempfile.TemporaryDirectory(prefix="floatcast-") as folder, ExitStack() as stack:
            paths = [self._local(stack, row) for row in rows]
            with av.open(paths[0], "r") as file:
                fps = frame_rate(file.streams.video[0])
            assert fps is not None
            order = _order(rows, fps)
            rows, paths = [rows[i] for i in order], [paths[i] for i in order]
            joined.notes += _seams(rows)
            pieces = list(_placed(rows, paths, fps))
            check_alike(pieces)
            form = format_of(pieces, rows[0]["preset"])
            made = _made(joined.name, rows)
            language = rows[0].get("language") if len({row.get("language") for row in rows}) == 1 else None
            timecode = rows[0].get("timecode")
            tags = comment(made["model"], made["model_hash"]) | {"title": joined.name}
            tags |= tags_of_mark(form.container, **made) | ({} if timecode is None else {"timecode": timecode})
            path = Path(folder) / f"joined{form.container.suffix}"
            join_videos(pieces, path, form=form, fps=fps, tags=tags, language=language, kbps=self._kbps)
            mark(path, **made)
            joined.frames = sum(piece.frames for piece in pieces)
            verify_video(path, frames=joined.frames, fps=fps, form=form, timecode=timecode, language=language)
            if any("c2pa" in (row.get("provenance") or "") for row in rows):
                joined.notes.append("its rows are signed (C2PA), and the joined file is not: sign it in your own chain")
            uri = join(self._to, f"{joined.name}{form.container.suffix}")
            if self._replace:
                put_file(path, uri)
            elif not create_file(path, uri):
                raise RefusedError(f"{uri} is there already: give replace=true to replace it")
            joined.uri = uri

    def _why_not(self, row: ClipRow) -> str:
        """A clip that fills a gap need not be approved: nobody has asked for it."""
        fills = row.get("gap_after") and self._only == "approved"
        return why_not(row, "pass" if fills else self._only)

    def _local(self, stack: ExitStack, row: ClipRow) -> Path:
        return Path(str(stack.enter_context(fetched(join(self._output, VIDEOS, video_name(row))))))


def _order(rows: Sequence[ClipRow], fps: Fraction) -> list[int]:
    """The positions of the rows in the programme's order: by their column `order`, or else by their time codes."""
    members = []
    for i, row in enumerate(rows):
        order, code = number_of(values_of(row).get("order")), row.get("timecode")
        timecode = None if code is None else parse_timecode(code, fps)
        members.append(Member(i, row["clip_id"], Programme("", order, timecode)))
    return [member.row for member in ordered(members)]


def _placed(rows: Sequence[ClipRow], paths: Sequence[Path], fps: Fraction) -> Iterator[Piece]:
    """The files at their places. Raises RefusedError for a gap between time codes."""
    frame, after = 0, None
    for row, path in zip(rows, paths, strict=True):
        if after is not None and (code := row.get("timecode")) is not None and code != after:
            frames = parse_timecode(after, fps).until(parse_timecode(code, fps))
            raise RefusedError(
                f"{row['clip_id']} begins at {code}, {frames} frames after the end of the row before it ({after}): "
                "render with programme.gaps=idle, which fills gaps, give a row for it, or time codes without one"
            )
        yield Piece(row["clip_id"], path, frame, row["frames"])
        frame, after = frame + row["frames"], row.get("timecode_after")


def _seams(rows: Sequence[ClipRow]) -> Iterator[str]:
    """Rows that do not go on from the take before them that is delivered."""
    for before, row in pairwise(rows):
        if row.get("continues") != f"{before['clip_id']}.{before['fingerprint']}":
            what = "another take of it" if row.get("continues") else "none"
            yield f"a seam may show between {before['clip_id']} and {row['clip_id']}, which goes on from {what}"


def _made(name: str, rows: Sequence[ClipRow]) -> dict[str, Any]:
    """What the mark of the joined file says. Raises RefusedError for rows of several models."""
    if len({row["model_hash"] for row in rows}) > 1:
        raise RefusedError(
            "its rows were rendered by different models, of which the mark of a file names one: render all"
        )
    sources = {row.get("source_sha256") for row in rows}
    made: dict[str, Any] = {"clip_id": name, "model": rows[0]["model"], "model_hash": rows[0]["model_hash"]}
    return made | {"source_sha256": sources.pop() if len(sources) == 1 else None}
