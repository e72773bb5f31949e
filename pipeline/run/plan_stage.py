"""The first stage if rows come from a data set of the user: manifest rows -> clips.

A rendering job plans on its driver before it holds any worker. In a user's own graph we have no driver, so each row is
checked, fingerprinted and looked up in the ledger when it arrives.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from models.sampling import choose_sampler
from pipeline.common.errors import ClipError, StorageError
from pipeline.common.stage import Resources, Stage
from pipeline.ledger.clip_row import error_row, rejected_row
from pipeline.ledger.columns import ClipRow
from pipeline.ledger.ledger import Ledger
from pipeline.manifest.clip import COLUMNS, Clip, Wanted
from pipeline.manifest.consent import check_consent
from pipeline.manifest.reader import check_rows, manifest_of
from pipeline.manifest.rows import Parser
from pipeline.run.fingerprint import clip_parts, fingerprint, identify, job_parts, sounds_of
from pipeline.run.settings import RenderSettings
from pipeline.storage.model_cache import local_model

NO_PROGRAMMES = (
    "rows of a graph of your own arrive in any order, so they cannot go on from one another: leave the column out, or "
    "render the rows as a manifest"
)


class PlanStage(Stage):
    """Rows (dicts with the columns of a manifest) -> clips; rows that are refused or done already -> status rows."""

    name = "plan"

    def __init__(self, settings: RenderSettings, ledger: Ledger) -> None:
        """Relative paths start at the current folder of this process."""
        self.resources = Resources(0.5)
        self._settings, self._ledger, self._base = settings, ledger, os.getcwd()

    def setup(self) -> None:
        """Open the model folder, whose variant decides what a row may ask for."""
        settings, model = self._settings, local_model(self._settings.model)
        solver = choose_sampler(model.config.objective, settings.render.solver)
        self._wanted = Wanted(model.config, solver, settings.defaults, settings.video, settings.provenance.signs)
        self._job = job_parts(model, settings.features, settings.render, settings.video, settings.provenance)

    def process(self, items: Sequence[dict[str, Any]]) -> Iterator[Clip | ClipRow]:
        """Yield one result per row. Rows are numbered within `items`, and a repeated clip_id is refused within them."""
        rows = map(Parser(COLUMNS), range(1, len(items) + 1), items)
        manifest = manifest_of("data set", [check_rows(rows, self._base, self._wanted)])
        manifest = check_consent(manifest, self._settings.consent, most=self._settings.limits.max_rows)
        yield from (rejected_row(rejected) for rejected in manifest.rejected)
        for clip in manifest.clips:
            try:
                yield self._planned(clip)
            except ClipError as error:
                yield error_row(clip, error)
            except StorageError as error:
                yield error_row(clip, ClipError("storage_error", str(error)))

    def _planned(self, clip: Clip) -> Clip | ClipRow:
        if clip.programme is not None:
            raise ClipError("value_invalid", f"{clip.place}, column programme: {NO_PROGRAMMES}")
        limits = self._settings.limits
        pose = None if clip.pose is None else identify(clip.pose, limits)
        audio, *others = sounds_of(clip, limits)
        tracks = [identify(track.uri, limits) for track in clip.audio_tracks]
        parts = clip_parts(clip, identify(clip.image, limits), audio, self._job, pose, tracks, others)
        clip = replace(clip, fingerprint=fingerprint(parts))
        return self._ledger.read(clip.clip_id, clip.fingerprint) or clip
