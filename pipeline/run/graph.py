"""The stages of a rendering job, in their order; an executor of `pipeline.cluster` runs them.

clips --> Features --> Render --> Quality control --> status rows
"""

from pipeline.cluster.pools import Pools
from pipeline.common.limits import Limits
from pipeline.common.stage import Pool
from pipeline.ledger.ledger import Ledger
from pipeline.media.settings import ProvenanceSettings, VideoSettings
from pipeline.qc.stage import QcStage
from pipeline.render.feature_stage import FeatureStage
from pipeline.render.render_stage import RenderStage


def render_graph(
    pools: Pools,
    *,
    model: str,
    ledger: Ledger,
    limits: Limits,
    video: VideoSettings,
    window_seconds: float = 2.0,
    provenance: ProvenanceSettings | None = None,
    audio_seconds: float = 0.0,
) -> list[Pool]:
    """Clips -> status rows. `model` is a folder or URI, `window_seconds` the length of its motion windows.

    `audio_seconds` is what each render worker has to render; 0 if unknown.
    """
    features, render = pools.features, pools.render
    stages = [
        Pool(FeatureStage(model, features, limits, video, ledger, render.clip_minutes), features.workers),
        Pool(
            RenderStage(model, render, video, ledger, provenance, audio_seconds=audio_seconds),
            render.workers,
            render.units_in_flight,
        ),
    ]
    if pools.qc.enabled:
        stages += judge_graph(pools, ledger=ledger, limits=limits, video=video, window_seconds=window_seconds)
    return stages


def judge_graph(
    pools: Pools, *, ledger: Ledger, limits: Limits, video: VideoSettings, window_seconds: float
) -> list[Pool]:
    """Status rows of finished clips -> the same rows with the metrics of quality control."""
    return [Pool(QcStage(pools.qc, limits, video, ledger, window_seconds, pools.render.clip_minutes), pools.qc.workers)]
