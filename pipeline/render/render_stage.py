"""The render stage: features -> status rows of delivered videos. Runs without Ray; the `Engine` does the work."""

from collections.abc import Iterator, Mapping, Sequence

from pipeline.common.attempts import PutOff
from pipeline.common.stage import Part, Resources, Stage
from pipeline.ledger.columns import ClipRow
from pipeline.ledger.ledger import Ledger
from pipeline.media.settings import ProvenanceSettings, VideoSettings
from pipeline.render.clip_job import ClipJob
from pipeline.render.engine import Engine
from pipeline.render.feature_stage import ClipFeatures
from pipeline.render.settings import EngineSettings
from pipeline.storage.model_cache import local_model


class RenderStage(Stage):
    """Renders and commits clips. A worker holds the model on its device, in an `Engine`."""

    name = "render"

    def __init__(
        self,
        model: str,
        settings: EngineSettings,
        video: VideoSettings,
        ledger: Ledger,
        provenance: ProvenanceSettings | None = None,
        *,
        audio_seconds: float = 0.0,
    ) -> None:
        """`model` is a folder or URI, as for `local_model`; `settings.num_gpus` is 0 or more.

        `audio_seconds` is what each worker has to render; 0 if unknown.
        """
        self.resources = Resources(settings.num_cpus, settings.num_gpus)
        self._model, self._settings, self._video = model, settings, video
        self._ledger, self._provenance, self._audio_seconds = ledger, provenance, audio_seconds
        self._engine: Engine | None = None

    def setup(self) -> None:
        """Load the model. Raises RuntimeError if the device, the encoder or the signing is not available."""
        model = local_model(self._model)
        self._engine = Engine(
            model,
            self._settings,
            self._video,
            self._ledger,
            self._provenance,
            self.attempts,
            audio_seconds=self._audio_seconds,
        )

    def process(self, items: Sequence[ClipFeatures | ClipRow | PutOff]) -> Iterator[ClipRow | PutOff]:
        """Yield the status row of each clip when it ends; results of earlier stages pass through.

        Several threads may call this.
        """
        assert self._engine is not None, "call setup() first"
        return self._engine.process(items)

    @property
    def ledger(self) -> Ledger:
        """The ledger of the run that this stage works for."""
        return self._ledger

    @property
    def queued_frames(self) -> int:
        """Number of decoded frames that wait for an encoder. May be called from any thread."""
        return sum(job.writer.queued for job in self._begun if job.writer is not None)

    @property
    def under_way(self) -> Mapping[str, Part]:
        """Frames that each clip's encoder has taken. May be called from any thread."""
        return {job.item.clip.clip_id: job.part for job in self._begun}

    @property
    def _begun(self) -> list[ClipJob]:
        return [] if self._engine is None else self._engine.begun

    def close(self) -> None:
        """Give up the clips that are being rendered, and stop all threads."""
        if self._engine is not None:
            self._engine.close()
