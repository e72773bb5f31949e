"""From settings to a run: the model, manifest, consents, reviews and certificates are read and checked."""

from collections.abc import Callable
from dataclasses import dataclass, field

from models import ModelFolder
from pipeline.cluster.executor import Executor
from pipeline.common.disk_collections import Spool
from pipeline.common.errors import RefusedError
from pipeline.common.options import SettingError
from pipeline.ledger.ledger import Ledger
from pipeline.manifest.clip import Wanted
from pipeline.manifest.consent import check_consent
from pipeline.manifest.programme_gaps import with_gaps
from pipeline.manifest.reader import Manifest, glance, located, read_manifest, wanted_of
from pipeline.media.c2pa import check_signing
from pipeline.media.settings import parse_fps
from pipeline.qc.retakes import Takes
from pipeline.qc.review import REVIEW, read_reviews
from pipeline.qc.stage import qc_version
from pipeline.qc.verdict import parse_thresholds
from pipeline.run.continued import continues, with_earlier_rows
from pipeline.run.fingerprint import job_parts
from pipeline.run.notify_receiver import Receiver, read_key
from pipeline.run.plan_rows import Identities, RowPlanner, planned_manifest
from pipeline.run.run import Run
from pipeline.run.selection import Selection
from pipeline.run.settings import RenderSettings
from pipeline.run.targets import check_output
from pipeline.storage.model_cache import POCKET, checked_model
from pipeline.storage.run_lock import new_run_id
from pipeline.storage.setting_files import of_setting
from pipeline.storage.uris import absolute, join

LONG = 4_000
"""Rows from which a manifest is read and planned by tasks on the cluster; for fewer, starting tasks takes longer."""


@dataclass
class Prepared:
    """What a rendering job starts with."""

    settings: RenderSettings
    model: ModelFolder
    run: Run
    wanted: Wanted
    """What the rows of the manifest are checked against."""
    rows: int = 0
    """Estimated number of rows of a manifest that is still to be read, by tasks on the cluster; 0 if it was read."""
    receiver: Receiver | None = None
    """Who gets the events of the run."""

    def read_manifest(self, executor: Executor, on_row: Callable[[], object] = lambda: None) -> Identities:
        """Read the manifest into the run; returns the identities of its clips. Raises RefusedError and StorageError."""
        run, settings = self.run, self.settings
        assert run.selection.part  # an invalid shard is refused here, and not by each task
        uri, plan = run.manifest.uri, run.ledger.run
        planner = RowPlanner(uri, self.wanted, run.limits, run.job, run.selection, run.statuses(), plan)
        with of_setting("manifest"):
            manifest, identities = planned_manifest(planner, executor, on_row)
        run.manifest = _filled(check_consent(manifest, settings.consent, most=run.limits.max_rows), settings)
        self.rows = 0
        return identities


def prepare_run(settings: RenderSettings, *, renders: bool = False) -> Prepared:
    """Read everything that the settings name, without writing anything; makes their paths absolute.

    If the run `renders`, and on a cluster, a long manifest is left to `Prepared.read_manifest`, which needs the
    cluster; its first rows are read here. Raises RefusedError and StorageError.
    """
    settings.output = absolute(settings.output)
    settings.qc.dlib_distance = "always" if settings.qc.measures_dlib else "never"  # as it is here, on every node
    for part, key in ((settings, "model"), (settings.qc, "identity_model"), (settings.qc, "syncnet")):
        if (place := getattr(part, key)) and place != POCKET:
            setattr(part, key, absolute(place))  # workers have another working directory
    selection = Selection(settings.only, settings.limit, settings.shard)
    assert selection.part  # an invalid shard is refused here
    own = continues(settings.manifest, settings.output, selection)
    check_output(settings, selection, continues=own)
    model = checked_model(settings.model)  # checked here once instead of in every worker
    try:
        signs, solver = settings.provenance.signs, settings.render.solver
        wanted = wanted_of(model.config, settings.defaults, solver, settings.video, signs=signs)
    except ValueError as error:
        raise RefusedError(f"render.solver: {error}") from error
    most = settings.limits.max_rows
    with of_setting("manifest"):
        rows = glance(settings.manifest, most) if renders and settings.executor != "serial" and not own else 0
        if rows >= LONG:
            manifest = Manifest(located(settings.manifest), Spool(), Spool())
        else:
            rows = 0
            manifest = read_manifest(
                settings.manifest,
                settings.defaults,
                model.config,
                solver=wanted.sampler,
                most=most,
                video=settings.video,
                signs=wanted.signs,
            )
    manifest = _filled(check_consent(manifest, settings.consent, most=most), settings)
    if own:
        if any(clip.programme is not None for clip in manifest.clips):
            raise RefusedError(
                "manifest: rows of programmes go on from rows that are not in this list: render the whole manifest "
                "again, with only=failed"
            )
        manifest = with_earlier_rows(manifest, settings.output, selection)
    return prepared_run(settings, Inputs(model, wanted, manifest, selection, own), rows)


def _filled(manifest: Manifest, settings: RenderSettings) -> Manifest:
    """The manifest with the gaps of its programmes, as the settings want them. Raises ManifestError."""
    columns = manifest.columns
    if settings.programme.gaps != "idle" or (columns is not None and "programme" not in columns):
        return manifest
    return with_gaps(manifest, parse_fps(settings.video.fps))


@dataclass(frozen=True)
class Inputs:
    """What a run renders."""

    model: ModelFolder
    wanted: Wanted
    manifest: Manifest
    selection: Selection = field(default_factory=Selection)
    continues: bool = False
    """As for `Run`."""


def prepared_run(settings: RenderSettings, inputs: Inputs, rows: int = 0) -> Prepared:
    """The run of inputs that were checked, with settings whose paths are absolute; `rows` as for `Prepared`.

    Reviews, limits, the receiver of events and certificates are checked here. Raises RefusedError and StorageError.
    """
    try:
        takes, version = _takes(settings), qc_version(settings.qc) if settings.qc.enabled else ""
    except SettingError as error:
        raise RefusedError(f"qc.{error}") from error
    try:
        receiver = Receiver(settings.notify, read_key(settings.notify)) if settings.notify.url else None
    except SettingError as error:
        raise RefusedError(f"notify.{error}") from error
    settings.provenance = check_signing(settings.provenance, settings.video.format.container)
    run = Run(
        Ledger(settings.output, new_run_id()),
        inputs.manifest,
        inputs.selection,
        settings.limits,
        job_parts(inputs.model, settings.features, settings.render, settings.video, settings.provenance),
        settings.max_failed_share,
        takes,
        version,
        continues=inputs.continues,
        retakes_rest=settings.programme.retake == "rest",
    )
    return Prepared(settings, inputs.model, run, inputs.wanted, rows, receiver)


def _takes(settings: RenderSettings) -> Takes:
    """The rules that choose between the takes of a clip. Raises SettingError, or ManifestError for the reviews."""
    qc = settings.qc
    reviews = read_reviews(absolute(qc.review) if qc.review else join(settings.output, REVIEW), given=bool(qc.review))
    takes = qc.max_takes if qc.enabled else 1
    return Takes(parse_thresholds(qc.thresholds), takes, reviews, tuple(qc.thresholds))
