"""Where the videos of an evaluation come from: folders, and the Floatcast runs that wrote them."""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.evaluation.systems import measured, systems_of
from pipeline.ledger.ledger import VIDEOS
from pipeline.ledger.table import TABLE, table_rows
from pipeline.run.summary import SUMMARY, read_summary
from pipeline.storage.explained import explained
from pipeline.storage.records import Damaged
from pipeline.storage.uris import join, parent

logger = logging.getLogger(__name__)

Row = dict[str, Any]

SHOWN = 3
"""Number of folders that are listed."""


@dataclass(frozen=True)
class Source:
    """The videos of one system, or the real ones."""

    system: str
    pairs: int
    """Measured pairs."""
    videos: int
    folders: str
    run: str
    """Run and model of the Floatcast output that the videos are in; empty if they are in none."""


def sources_of(rows: Sequence[Row], real: str) -> list[Source]:
    """The real videos under the name `real`, and then the systems, by name."""
    done = measured(rows)
    found = [_source(real, len(done), {row["reference"] for row in done})]
    for system in systems_of(rows):
        ours = measured(done, system)
        found.append(_source(system, len(ours), {row["generated"] for row in ours}))
    return found


def _source(system: str, pairs: int, uris: Iterable[str]) -> Source:
    uris = set(uris)
    folders = sorted({parent(uri) for uri in uris})
    more = f" and {len(folders) - SHOWN} more" if len(folders) > SHOWN else ""
    runs = dict.fromkeys(filter(None, map(_run, folders[:SHOWN])))
    return Source(system, pairs, len(uris), ", ".join(folders[:SHOWN]) + more, "; ".join(runs))


def _run(folder: str) -> str:
    """What the output folder of a render job says of itself, if this is its folder of videos."""
    if not folder.endswith(f"/{VIDEOS}"):
        return ""
    output = parent(folder)
    try:
        summary = read_summary(join(output, SUMMARY))
        if summary is None or isinstance(summary, Damaged):
            return ""
        model = next((row.get("model") for row in table_rows(join(output, TABLE), ["model"])), None)
    except Exception as error:  # a damaged table, or a storage with exceptions of its own: the figures do not need it
        logger.warning("the page does not name the run that wrote %s: %s", folder, explained(error))
        return ""
    return f"run {summary.get('run')}" + (f", model {model}" if model else "")
