"""The files of an output folder that jobs.train replaces, and how those of earlier runs are told from others."""

from collections.abc import Mapping

from pipeline.storage.targets import Target, check_targets, is_empty, is_model, is_page, json_with, table_with
from pipeline.training.checkpoint import CHECKPOINTS, newest
from pipeline.training.curves import CURVES, EVENTS, PAGE
from pipeline.training.run import MODEL

SUMMARY = "summary.json"

TARGETS = (
    Target(SUMMARY, json_with("state", "steps", "model")),
    Target(CURVES, table_with("step", "name", "value")),
    Target(PAGE, is_page),
    Target(MODEL, lambda uri: is_model(uri) or is_empty(uri), is_folder=True),
)


def check_output(output: str, inputs: Mapping[str, str]) -> None:
    """Raise RefusedError if the output is no folder, or if the job would replace an input or somebody else's file."""
    check_targets(output, TARGETS, inputs, lambda: newest(output) is not None, (CHECKPOINTS, EVENTS, "sheets", "start"))
