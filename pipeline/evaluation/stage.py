"""The stages of an evaluation: videos, then pairs of them.

Errors become rows, and earlier measurements are read back.
"""

import hashlib
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.common.child import in_child
from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.common.redaction import redacted
from pipeline.common.stage import Resources, Stage
from pipeline.evaluation.compare import compared
from pipeline.evaluation.files import key_of, local_features, put_features, read_record
from pipeline.evaluation.metrics import PAIR_METRICS
from pipeline.evaluation.networks import DLIB
from pipeline.evaluation.watch import check_networks, watched
from pipeline.ledger.done_store import DoneStore
from pipeline.measure.dlib_face import SHA256
from pipeline.run.fingerprint import identify
from pipeline.storage.explained import explained
from pipeline.storage.pinned import keep_pinned
from pipeline.storage.untrusted import input_file

logger = logging.getLogger(__name__)

VERSION = 3
"""Version of the measurements; raised if a metric or feature of the same files changes, so that it is measured
again.
"""

Row = dict[str, Any]

OF_VIDEO = ("frames", "fps", "duration", "width", "height", *(f.column for f in PAIR_METRICS if f.of_video))
"""Columns that exist for both videos of a pair; the reference's have the prefix `reference_`."""


class VideoStage(Stage):
    """{uri} -> {uri, status, name, figures, notes, features}; `name` is that of the stored files.

    Child processes hold the networks, and decode.
    """

    name = "videos"

    def __init__(
        self,
        output: str,
        places: Mapping[str, str],
        limits: Limits,
        resources: Resources | None = None,
        *,
        dlib: bool = False,
    ) -> None:
        """`places` as for `networks.Networks`; `dlib`: whether dlib's embedding is wanted."""
        self.resources = resources or Resources()
        self._output, self._places, self._limits, self._dlib = output, places, limits, dlib

    def setup(self) -> None:
        """Load the networks. Raises SettingError for one that is none, and RefusedError if dlib is not installed."""
        self._folder = tempfile.TemporaryDirectory(prefix="floatcast-")
        kept = {key: keep_pinned(key, uri, Path(self._folder.name)) for key, uri in self._places.items() if uri}
        self._networks = tuple((key, str(file)) for key, file in kept.items())
        self._hashes = {key: hashlib.sha256(Path(file).read_bytes()).hexdigest() for key, file in self._networks}
        if self._dlib:
            self._hashes[DLIB] = SHA256
        if self._hashes:
            in_child(check_networks, self._networks, self._dlib)

    def close(self) -> None:
        """Remove the copies of the networks."""
        self._folder.cleanup()

    def process(self, items: Sequence[Row]) -> Iterator[Row]:
        """Measure videos, each on its own."""
        for item in items:
            yield guarded(self._measure, item, {"uri": item["uri"]})

    def _measure(self, item: Row) -> Row:
        uri = item["uri"]
        with input_file(uri, self._limits) as path, tempfile.TemporaryDirectory(prefix="floatcast-") as folder:
            name = f"video-{key_of(identify(uri, self._limits).identity, self._hashes, VERSION)}"
            found = read_record(self._output, name)
            if found is None:
                threads = self.resources.threads
                seen = in_child(watched, path, Path(folder), self._networks, self._dlib, self._limits, threads)
                for kind, file in seen.features.items():
                    put_features(self._output, name, kind, file)
                found = {"figures": seen.metrics, "notes": seen.notes, "features": sorted(seen.features)}
                DoneStore(self._output).write(name, found)
        return {"uri": uri, "status": "done", "name": name, **found}


class PairStage(Stage):
    """A pair with the rows of both its videos -> its row of pairs.parquet."""

    name = "pairs"

    def __init__(self, output: str, limits: Limits, resources: Resources | None = None) -> None:
        self.resources = resources or Resources()
        self._output, self._limits = output, limits

    def process(self, items: Sequence[Row]) -> Iterator[Row]:
        """Measure pairs; each item has `row`, `system`, `reference`, `generated`, and the rows of both videos as
        `videos`.
        """
        for item in items:
            yield guarded(self._measure, item, {k: v for k, v in item.items() if k != "videos"})

    def _measure(self, item: Row) -> Row:
        ours, theirs = item["videos"]
        name = f"pair-{key_of(ours['name'], theirs['name'], VERSION)}"
        found = read_record(self._output, name)
        if found is None:
            embedded = {"identity", "dlib"}.intersection(ours["features"]).intersection(theirs["features"])
            kinds = ("times", "landmarks", "mouth", *sorted(embedded))
            with (
                input_file(item["generated"], self._limits) as generated,
                input_file(item["reference"], self._limits) as reference,
                local_features(self._output, ours["name"], kinds) as one,
                local_features(self._output, theirs["name"], kinds) as other,
            ):
                fps = ours["figures"]["fps"]
                metrics, notes = in_child(compared, generated, reference, one, other, fps, embedded, self._limits)
            found = {"figures": metrics, "notes": notes}
            DoneStore(self._output).write(name, found)
        row = {key: item[key] for key in ("row", "system", "reference", "generated")} | {"status": "done"}
        row |= found["figures"] | {column: ours["figures"][column] for column in OF_VIDEO}
        row |= {f"reference_{column}": theirs["figures"][column] for column in OF_VIDEO}
        row["duration_mismatch_s"] = ours["figures"]["duration"] - theirs["figures"]["duration"]
        row["notes"] = [*found["notes"], *ours["notes"], *(f"reference: {note}" for note in theirs["notes"])]
        return row


def guarded(measure: Any, item: Row, known: Row) -> Row:
    """The item's row, or a row that says why there is none."""
    try:
        return measure(item)
    except ClipError as error:
        return known | {"status": error.status, "error_code": error.code, "error_message": error.message}
    except Exception as error:  # a bug in our code, a network or a library must not end the others
        logger.error("evaluation of %s", known, exc_info=error)
        text = redacted(explained(error))
        return known | {"status": "failed", "error_code": "internal_error", "error_message": text}
