"""Takes: a clip that fails is rendered again with another seed, and the best take is delivered.

Take 1 is the planned clip. Take 2 has another seed and the fingerprint `<fingerprint>-2`, so that the ledger keeps
both: each has its own video, its row in done/ and its metrics in qc/. Which take is delivered is not stored, but
follows from the rows.
"""

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.common.disk_collections import Spool
from pipeline.ledger.clip_row import mark_of_take, take_of
from pipeline.ledger.columns import ClipRow, extended
from pipeline.manifest.clip import Clip
from pipeline.measure.metric import VERDICTS
from pipeline.qc.review import REVIEW, Review, read_reviews
from pipeline.qc.verdict import Threshold, judge, parse_thresholds
from pipeline.storage.records import Damaged, read_json
from pipeline.storage.uris import join, shown

logger = logging.getLogger(__name__)


def take_clip(clip: Clip, take: int) -> Clip:
    """The clip of a later take; its seed, and that of each face that has one of its own, is a function of the planned
    seed and the number of the take.
    """
    if take == 1:
        return clip
    faces = tuple(
        face if face.seed is None else replace(face, seed=_seed_of_take(face.seed, take)) for face in clip.faces
    )
    mark = mark_of_take(clip.fingerprint, take)
    return replace(clip, seed=_seed_of_take(clip.seed, take), faces=faces, fingerprint=mark)


def _seed_of_take(seed: int, take: int) -> int:
    digest = hashlib.sha256(f"{seed} take {take}".encode()).digest()
    return int.from_bytes(digest[:8]) >> 1  # 63 bits


def last_takes(output: str) -> "Takes":
    """Takes with the thresholds of the last run on an output, and its reviews. Raises ManifestError.

    If the summary is damaged, the log says that the verdicts are by the limits that hold without settings.
    """
    summary = read_json(join(output, "summary.json"))
    texts = [] if summary is None or isinstance(summary, Damaged) else summary.get("qc_thresholds") or []
    if isinstance(summary, Damaged) or not (isinstance(texts, list) and all(isinstance(text, str) for text in texts)):
        logger.warning("%s/summary.json is damaged: the verdicts are by the default limits", shown(output))
        texts = []
    return Takes(parse_thresholds(texts), reviews=read_reviews(join(output, REVIEW)), texts=tuple(texts))


@dataclass
class Takes:
    """The takes of clips that are not decided yet; memory grows with their number."""

    thresholds: Sequence[Threshold] = ()
    max_takes: int = 1
    reviews: dict[str, list[Review]] = field(default_factory=dict)
    """By clip_id."""
    texts: Sequence[str] = ()
    """The thresholds as given by the user."""
    story: Spool[ClipRow] = field(default_factory=Spool)
    """All rows of clips that have more than one take."""
    _open: dict[int, dict[int, ClipRow]] = field(default_factory=dict)
    """Row number -> take -> its row."""
    _awaited: dict[int, int] = field(default_factory=dict)
    _next: list[tuple[int, int, float]] = field(default_factory=list)

    def expect(self, number: int, takes: int) -> None:
        """Announce the number of takes of a clip, all of which will be added."""
        self._awaited[number] = takes

    def add(self, row: ClipRow) -> ClipRow | None:
        """Take a row. Returns the row to deliver, once that is decided."""
        number = row["row"]
        takes = self.hold(row)
        if len(takes) < self._awaited.get(number, 1):
            return None
        best = self._decide(list(takes.values()))
        if best is None:
            self._next.append((number, max(takes) + 1, row.get("duration") or row.get("audio_duration") or 0.0))
            return None
        return self._close(number, best)

    def hold(self, row: ClipRow) -> dict[int, ClipRow]:
        """Keep a row for `rest`, without a decision; returns all takes of its clip."""
        takes = self._open.setdefault(row["row"], {})
        takes[take_of(row)] = judged(row, self.thresholds)
        return takes

    def next_takes(self) -> list[tuple[int, int, float]]:
        """(row number, take, seconds) of what must be rendered now; returned only once."""
        taken, self._next = self._next, []
        for number, take, _ in taken:
            self._awaited[number] = take
        return taken

    def rest(self) -> list[ClipRow]:
        """The best takes so far of clips that the job did not finish."""
        return [
            self._close(number, self._best(list(takes.values()))) for number, takes in list(self._open.items()) if takes
        ]

    def _close(self, number: int, best: ClipRow) -> ClipRow:
        takes = self._open.pop(number)
        if len(takes) > 1:
            for _, row in sorted(takes.items()):
                chosen = take_of(row) == take_of(best)
                self.story.append(extended(self._reviewed(row), {"takes": len(takes), "delivered": chosen}))
        return best | {"takes": len(takes)} if best["status"] == "done" else best

    def _decide(self, rows: list[ClipRow]) -> ClipRow | None:
        """The row to deliver, or None for another take."""
        best, newest = self._best(rows), max(rows, key=take_of)
        if newest["status"] != "done":  # another seed cannot fix that, and what was delivered before is still valid
            return best
        if best.get("review") == "retake":
            return None
        if best.get("review") == "approved" or best.get("qc_status") != "fail":
            return best
        asked = sum(self._reviewed(row).get("review") == "retake" for row in rows)
        own = self.max_takes if judge(best, self.thresholds).seed_may_help else 1
        return None if len(rows) < own + asked else best  # a person asks for one more, and not for one that fails

    def _best(self, rows: list[ClipRow]) -> ClipRow:
        return min(map(self._reviewed, rows), key=_rank)

    def _reviewed(self, row: ClipRow) -> ClipRow:
        return reviewed(row, self.reviews.get(row["clip_id"], []))


def judged(row: ClipRow, thresholds: Sequence[Threshold]) -> ClipRow:
    """A row with its verdict, if it has metrics; the verdict and review of an earlier run are replaced."""
    row = extended(row, dict.fromkeys(("qc_status", "qc_reasons", "qc_messages", "review", "review_comment")))
    if row["status"] != "done" or row.get("qc_version") is None:
        return row
    verdict = judge(row, thresholds, row.get("qc_notes") or ())
    return row | {
        "qc_status": verdict.status,
        "qc_reasons": list(verdict.reasons),
        "qc_messages": list(verdict.messages),
    }


def reviewed(row: ClipRow, reviews: Sequence[Review]) -> ClipRow:
    """A row with the review of its video, which takes precedence over the metrics; the last review counts."""
    said = [review for review in reviews if review.is_of(row.get("fingerprint") or "")]
    if row["status"] != "done" or not said:
        return row
    found: dict[str, Any] = {"review": said[-1].verdict, "review_comment": said[-1].comment}
    if said[-1].verdict == "approved":
        found["qc_status"] = "pass"
    return extended(row, found)


def _rank(row: ClipRow) -> tuple[Any, ...]:
    """Sort key of a take; lower is better."""
    verdict = row.get("qc_status")
    return (
        row["status"] != "done",
        row.get("review") == "retake",
        row.get("review") != "approved",
        VERDICTS.index(verdict) if verdict in VERDICTS else 1,
        len(row.get("qc_reasons") or ()),
        take_of(row),
    )
