"""The files of an output folder that jobs.prepare replaces, and how those of earlier runs are told from others."""

import re
from collections.abc import Mapping

from pipeline.ledger.attempt_log import ATTEMPTS
from pipeline.ledger.done_record import split_stem
from pipeline.ledger.done_store import DONE, DoneStore
from pipeline.run.summary import SUMMARY
from pipeline.storage.targets import Target, check_targets, is_jpeg, is_page, json_with, table_with
from pipeline.training_data.places import DONE_LATENTS, TILES
from pipeline.training_data.report import REPORT, SHEET
from pipeline.training_data.shards import CLIPS, LATENTS
from pipeline.training_data.splits import SPLITS
from pipeline.training_data.summary import SAMPLES

LATENT_SUMMARY = "latents.json"

TARGETS = {
    "clips": (
        Target(SAMPLES, table_with("clip_id", "key", "status", "reason", "split")),
        Target(SUMMARY, json_with("run", "state", "stage")),
        Target(SPLITS, json_with("settings", "speakers")),
        Target(REPORT, is_page),
        Target(SHEET, is_jpeg),
    ),
    "latents": (Target(LATENT_SUMMARY, json_with("run", "stage", "model")),),
}
"""By stage."""


def check_output(output: str, stage: str, inputs: Mapping[str, str]) -> None:
    """Raise RefusedError if the output is no folder, or if the job would replace an input or somebody else's file."""
    folders = (CLIPS, DONE, TILES, LATENTS, DONE_LATENTS, ATTEMPTS)
    check_targets(output, TARGETS[stage], inputs, lambda: _has_run(output), folders)


def _has_run(output: str) -> bool:
    """Whether an earlier run has marked a video as done: by its key, which has at least eight digits at its end."""
    return any(re.search(r"[0-9a-f]{8}$", name) and not split_stem(name) for name in DoneStore(output).names())
