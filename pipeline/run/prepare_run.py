"""From settings to a run: the model, manifest, consents, reviews and certificates are read and checked."""

from dataclasses import dataclass

from models import ModelFolder
from models.sampling import choose_sampler
from pipeline.common.errors import RefusedError
from pipeline.common.options import SettingError
from pipeline.ledger.ledger import Ledger
from pipeline.manifest.consent import check_consent
from pipeline.manifest.reader import read_manifest
from pipeline.media.c2pa import check_signing
from pipeline.qc.retakes import Takes
from pipeline.qc.review import REVIEW, read_reviews
from pipeline.qc.stage import qc_version
from pipeline.qc.verdict import parse_thresholds
from pipeline.run.fingerprint import job_parts
from pipeline.run.run import Run
from pipeline.run.selection import Selection
from pipeline.run.settings import RenderSettings
from pipeline.storage.model_cache import POCKET, checked_model
from pipeline.storage.objects import absolute, join
from pipeline.storage.run_lock import new_run_id


@dataclass
class Prepared:
    """What a rendering job starts with."""

    settings: RenderSettings
    model: ModelFolder
    run: Run


def prepare_run(settings: RenderSettings) -> Prepared:
    """Read everything that the settings name, without writing anything; makes their paths absolute.

    Raises RefusedError and StorageError.
    """
    settings.output = absolute(settings.output)
    if settings.model != POCKET:
        settings.model = absolute(settings.model)  # workers have another working directory
    model = checked_model(settings.model)  # checked here once instead of in every worker
    try:
        solver = choose_sampler(model.config.objective, settings.render.solver)
    except ValueError as error:
        raise RefusedError(f"render.solver: {error}") from error
    manifest = read_manifest(settings.manifest, settings.defaults, model.config, solver=solver)
    manifest = check_consent(manifest, settings.consent)
    try:
        takes, version = _takes(settings), qc_version(settings.qc) if settings.qc.enabled else ""
    except SettingError as error:
        raise RefusedError(f"qc.{error}") from error
    settings.provenance = check_signing(settings.provenance)
    run = Run(
        Ledger(settings.output, new_run_id()),
        manifest,
        Selection(settings.only, settings.limit, settings.shard),
        settings.limits,
        job_parts(model, settings.features, settings.render, settings.video, settings.provenance),
        settings.max_failed_share,
        takes,
        version,
    )
    return Prepared(settings, model, run)


def _takes(settings: RenderSettings) -> Takes:
    """The rules that choose between the takes of a clip. Raises SettingError, or ManifestError for the reviews."""
    qc = settings.qc
    reviews = read_reviews(absolute(qc.review) if qc.review else join(settings.output, REVIEW))
    takes = qc.max_takes if qc.enabled else 1
    return Takes(parse_thresholds(qc.thresholds), takes, reviews, tuple(qc.thresholds))
