"""The stage before all others where rows come from somebody's own data set: rows of a manifest -> clips.

A rendering job plans on its driver, before it holds a single worker. A graph that is somebody else's has no driver of
ours: each row is checked, fingerprinted and looked up in the ledger where it comes along.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from models.sampling import choose_sampler
from pipeline.common.errors import ClipError, StorageError
from pipeline.common.stage import Resources, Stage
from pipeline.ledger.clip_row import StatusRow, error_row, rejected_row
from pipeline.ledger.ledger import Ledger
from pipeline.manifest.clip import Clip, Wanted
from pipeline.manifest.consent import check_consent
from pipeline.manifest.reader import checked_rows
from pipeline.run.fingerprint import clip_parts, fingerprint, identify, job_parts
from pipeline.run.settings import RenderSettings
from pipeline.storage.model_cache import local_model


class PlanStage(Stage):
    """Rows (dicts with a manifest's columns) -> clips; what is refused, or done already, as its status row."""

    name = "plan"

    def __init__(self, settings: RenderSettings, ledger: Ledger) -> None:
        """Relative paths begin at the folder that this process is in."""
        self.resources = Resources(0.5)
        self._settings, self._ledger, self._base = settings, ledger, os.getcwd()

    def setup(self) -> None:
        """Open the model folder, whose variant decides what a row may ask for."""
        settings, model = self._settings, local_model(self._settings.model)
        solver = choose_sampler(model.config.objective, settings.render.solver)
        self._wanted = Wanted(model.config, solver, settings.defaults)
        self._job = job_parts(model, settings.features, settings.render, settings.video, settings.provenance)

    def process(self, items: Sequence[dict[str, Any]]) -> Iterator[Clip | StatusRow]:
        """One result per row. Rows are numbered within `items`, and a repeated clip_id is refused within them."""
        manifest = checked_rows("data set", enumerate(items, start=1), self._base, self._wanted)
        manifest = check_consent(manifest, self._settings.consent)
        yield from (rejected_row(rejected) for rejected in manifest.rejected)
        for clip in manifest.clips:
            try:
                yield self._planned(clip)
            except ClipError as error:
                yield error_row(clip, error)
            except StorageError as error:
                yield error_row(clip, ClipError("storage_error", str(error)))

    def _planned(self, clip: Clip) -> Clip | StatusRow:
        limits = self._settings.limits
        pose = None if clip.pose is None else identify(clip.pose, limits)
        parts = clip_parts(clip, identify(clip.image, limits), identify(clip.audio, limits), self._job, pose)
        clip = replace(clip, fingerprint=fingerprint(parts))
        return self._ledger.read(clip.clip_id, clip.fingerprint) or clip
