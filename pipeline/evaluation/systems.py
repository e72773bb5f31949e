"""Results of a whole system: means with intervals, and distances between its videos and the real ones.

Each distance comes with its floor: the distance between two halves of the real videos, split at random by video. A
system with a distance near the floor cannot be told from real video. Because halves have fewer samples, the floor is
somewhat too high.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.evaluation.bootstrap import interval
from pipeline.evaluation.files import features
from pipeline.evaluation.frechet import Moments, frechet_distance
from pipeline.evaluation.metrics import PAIR_METRICS, SET_METRICS, Metric

REAL = "real videos"
"""Name for the metrics of the reference videos themselves."""

NONE_MEASURED = "no pair of this system could be measured"

Row = dict[str, Any]


@dataclass(frozen=True)
class Result:
    """One metric of one system: a row of systems.parquet."""

    system: str
    figure: str
    value: float | None
    low: float | None = None
    """95 % confidence interval of a mean, by bootstrap over pairs; distances have none."""
    high: float | None = None
    count: int = 0
    """Number of pairs for a mean; number of frames, clips or faces of the generated videos for a distance."""
    reference_count: int | None = None
    dimension: int | None = None
    """Dimension of the features."""
    floor: float | None = None
    """Distance between two halves of the real videos."""
    floor_counts: list[int] | None = None
    """Number of frames, clips or faces in each half."""
    note: str = ""
    """Why the value is empty, or what to know about it."""

    def as_row(self) -> Row:
        """The result as a row of the table."""
        return asdict(self)


def systems_of(rows: Iterable[Row]) -> list[str]:
    """Names of the systems, including those of which no pair could be measured."""
    return sorted({row["system"] for row in rows if row.get("system")})


def measured(rows: Iterable[Row], system: str = "") -> list[Row]:
    """Rows that are done, of one system or of all."""
    return [row for row in rows if row["status"] == "done" and (not system or row["system"] == system)]


def means(rows: Sequence[Row], missing: Mapping[str, str], seed: int) -> Iterator[Result]:
    """Means over each system's pairs, and those of the real videos themselves.

    `missing`: column -> why it is empty everywhere, for example without a network.
    """
    done = measured(rows)
    for metric in PAIR_METRICS:
        for system in systems_of(rows):
            values = [row[metric.column] for row in measured(done, system)]
            yield _mean(system, metric, values, missing, seed)
        if metric.of_video and done:
            by_video = {row["reference"]: row[f"reference_{metric.column}"] for row in done}
            yield _mean(REAL, metric, list(by_video.values()), missing, seed)


def _mean(system: str, metric: Metric, values: Sequence[float | None], missing: Mapping[str, str], seed: int) -> Result:
    known = [value for value in values if value is not None]
    if not known:
        reason = missing.get(metric.column, "no pair has a value: see their notes" if values else NONE_MEASURED)
        return Result(system, metric.column, None, note=reason)
    low, high = interval(known, seed)
    notes = [] if len(known) == len(values) else [f"{len(values) - len(known)} of {len(values)} pairs have no value"]
    if len(known) == 1:
        notes.append("there is only one value, so there is no interval")
    return Result(system, metric.column, float(np.mean(known)), low, high, len(known), note="; ".join(notes))


def halves(references: Iterable[str], seed: int) -> tuple[list[str], list[str]]:
    """The videos, split in two at random; if their number is odd, the first half has one more."""
    ordered = sorted(references)
    shuffled = [ordered[i] for i in np.random.default_rng(seed).permutation(len(ordered))]
    middle = (len(shuffled) + 1) // 2
    return shuffled[:middle], shuffled[middle:]


def distances(
    rows: Sequence[Row], videos: Mapping[str, Row], output: str, missing: Mapping[str, str], seed: int
) -> Iterator[Result]:
    """Distances of each system, from the features that the workers stored; one metric and system after another.

    `videos`: URI -> row of `stage.VideoStage`. Memory: a few matrices (D,D).
    """
    for metric in SET_METRICS:
        known: tuple[frozenset[str], _Real] | None = None
        for system in systems_of(rows):
            ours = measured(rows, system)
            if metric.column in missing or not ours:
                yield Result(system, metric.column, None, note=missing.get(metric.column, NONE_MEASURED))
                continue
            references = frozenset(row["reference"] for row in ours)
            if known is None or known[0] != references:  # systems with the same real videos share them
                known = references, _Real.of(references, videos, output, metric, seed)
            made = [videos[row["generated"]] for row in _once(ours)]
            without = _without(made, [videos[uri] for uri in sorted(references)], metric.features)
            yield _distance(system, metric, moments(made, output, metric.features), known[1], without)


def _once(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows with each generated video once."""
    return iter({row["generated"]: row for row in rows}.values())


def _without(generated: Sequence[Row], real: Sequence[Row], kind: str) -> str:
    """How many videos have no such features, and why; empty if all have some."""
    why = "are shorter than 16 frames" if kind == "i3d" else "show no face (face_not_found)"
    counts = [
        (name, sum(kind not in video["features"] for video in videos), len(videos))
        for name, videos in (("generated", generated), ("real", real))
    ]
    return " and ".join(f"{none} of {count} {name} videos {why}" for name, none, count in counts if none)


@dataclass(frozen=True)
class _Real:
    """The real videos of a system."""

    whole: Moments | None
    floor: float | None
    counts: list[int] | None
    note: str

    @classmethod
    def of(cls, uris: Iterable[str], videos: Mapping[str, Row], output: str, metric: Metric, seed: int) -> "_Real":
        """Moments of both halves and of all videos."""
        parts = [moments((videos[uri] for uri in half), output, metric.features) for half in halves(uris, seed)]
        counts = [0 if part is None else part.count for part in parts]
        floor, note = None, ""
        one, other = parts
        if one is not None and other is not None and min(counts) >= 2:
            floor = frechet_distance(one, other)
        else:
            note = "there is no floor: it takes two real videos with two samples each"
        whole = one or other
        if one is not None and other is not None:
            one.merge(other)
        return cls(whole, floor, counts, note)


def moments(videos: Iterable[Row], output: str, kind: str) -> Moments | None:
    """Moments of the features of all these videos; None if there are none."""
    found: Moments | None = None
    for video in videos:
        if kind not in video["features"]:
            continue
        with features(output, video["name"], kind) as rows:
            found = found or Moments.zero(rows.shape[1])
            found.add(rows)
    return found


def _distance(system: str, metric: Metric, generated: Moments | None, real: _Real, without: str) -> Result:
    counts = (0 if generated is None else generated.count, 0 if real.whole is None else real.whole.count)
    if generated is None or real.whole is None or min(counts) < 2:
        what = without or "there are too few samples"
        return Result(system, metric.column, None, count=counts[0], reference_count=counts[1], note=what)
    notes = [note for note in (without, real.note) if note]
    dimension = generated.dimension
    few = [
        f"{count} {name} samples"
        for count, name in zip(counts, ("generated", "real"), strict=True)
        if count <= dimension
    ]
    if few:
        notes.append(
            f"{' and '.join(few)} for {dimension} dimensions: the covariance is singular, so the distance is biased"
        )
    elif real.counts and real.floor is not None and min(real.counts) <= dimension:
        notes.append(f"floor: a half has {min(real.counts)} samples for {dimension} dimensions, so it is biased")
    return Result(
        system,
        metric.column,
        frechet_distance(real.whole, generated),
        count=counts[0],
        reference_count=counts[1],
        dimension=dimension,
        floor=real.floor,
        floor_counts=real.counts if real.floor is not None else None,
        note="; ".join(notes),
    )
