"""Settings of a rendering job: the command line, YAML files, `--help` and the Python API are made from them."""

from dataclasses import dataclass, field

from pipeline.cluster.connect import ADDRESS, executor_option
from pipeline.common.limits import Limits
from pipeline.common.options import option
from pipeline.manifest.settings import ClipDefaults, ConsentSettings
from pipeline.media.settings import ProvenanceSettings, VideoSettings
from pipeline.qc.settings import QcSettings
from pipeline.render.settings import EngineSettings, FeatureSettings
from pipeline.run.notify_settings import NotifySettings
from pipeline.storage.model_cache import POCKET

CLIP_COLUMNS = (
    "clip_id, image, audio, language, speaker, emotion (one, or a list of spans), seed, nfe, a_cfg_scale, e_cfg_scale, "
    "r_cfg_scale, pose (a file, or a list with it and spans), programme and order (rows that go on from one another)"
)


@dataclass
class ProgrammeSettings:
    """Rows that go on from one another (columns programme and order)."""

    gaps: str = option(
        "refuse",
        "What is done about gaps between the time codes of the rows of a programme: idle fills them with silence and "
        "idle motion, by a longer clip of the row before or, after a row with frames, by a clip of its own; refuse "
        "leaves them, and jobs.join refuses the programme.",
        choices=("refuse", "idle"),
    )
    retake: str = option(
        "this",
        "What is rendered when a reviewer asks for another take of a row of a programme: this renders that row alone, "
        "and a seam may show after it; rest also renders the rows that follow, each going on from the new one.",
        choices=("this", "rest"),
    )


@dataclass
class RenderSettings:
    """What to render, with which model and settings, and where to."""

    manifest: str = option(
        "",
        f"Parquet, CSV or JSONL file or folder of Parquet files, local or s3://; columns: {CLIP_COLUMNS}, crop ...",
    )
    output: str = option("out", "Folder for videos/, done/ and clips.parquet, local or s3://.")
    model: str = option(
        POCKET, "Model folder (see jobs.convert), local or s3://, or pocket for the small bundled model."
    )
    only: str = option(
        "",
        "Render only these clips: failed (in the last run; with the rejected ones whose inputs or settings have "
        "changed since), rejected, quarantined, or clip ids separated by commas.",
    )
    limit: int = option(0, "Render at most this many clips; 0 renders all.", least=0)
    shard: str = option("", "i/n renders the i-th of n parts of the manifest, so that n jobs can run at the same time.")
    max_failed_share: float = option(
        0.5,
        "Stop the run if more than this share of the clips has failed, once 20 clips have ended; 1 never stops it.",
        least=0,
        most=1,
    )
    embed_videos: bool = option(
        False,
        "Also write videos.parquet/, a Parquet dataset of the same rows with each MP4 in a binary column `video`.",
    )
    executor: str = executor_option()
    address: str = option("", ADDRESS)
    wait_minutes: float = option(
        0.0,
        "Minutes to wait for a cluster to start the nodes that the job needs; also set features.workers, "
        "render.workers and render.num_gpus, because the size that a cluster will have is unknown in advance.",
        least=0,
    )
    defaults: ClipDefaults = field(default_factory=ClipDefaults)
    limits: Limits = field(default_factory=Limits)
    features: FeatureSettings = field(default_factory=FeatureSettings)
    render: EngineSettings = field(default_factory=EngineSettings)
    video: VideoSettings = field(default_factory=VideoSettings)
    programme: ProgrammeSettings = field(default_factory=ProgrammeSettings)
    qc: QcSettings = field(default_factory=QcSettings)
    provenance: ProvenanceSettings = field(default_factory=ProvenanceSettings)
    consent: ConsentSettings = field(default_factory=ConsentSettings)
    notify: NotifySettings = field(default_factory=NotifySettings)
