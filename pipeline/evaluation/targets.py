"""The files of an output folder that jobs.evaluate replaces, and how those of earlier runs are told from others."""

import re
from collections.abc import Mapping

from pipeline.evaluation.comparison import FOLDER
from pipeline.evaluation.page import PAGE
from pipeline.evaluation.tables import PAIRS, SYSTEMS
from pipeline.ledger.done_store import DONE, DoneStore
from pipeline.storage.targets import Target, check_targets, is_page, table_with

TARGETS = (
    Target(PAIRS, table_with("system", "reference", "generated", "status")),
    Target(SYSTEMS, table_with("system", "figure", "value")),
    Target(PAGE, is_page),
)


def check_output(output: str, inputs: Mapping[str, str]) -> None:
    """Raise RefusedError if the output is no folder, or if the job would replace an input or somebody else's file."""
    check_targets(output, TARGETS, inputs, lambda: _has_run(output), (DONE, FOLDER))


def _has_run(output: str) -> bool:
    """Whether an earlier run has measured a video or a pair (`evaluation.files`)."""
    return any(re.fullmatch(r"(video|pair)-[0-9a-f]{16}", name) for name in DoneStore(output).names())
