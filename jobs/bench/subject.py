"""What is measured: a trained model, the first clip of the demo, and the motion that the plain model gives it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from jobs.bench.counting import precision
from jobs.bench.job import DEMO, FULL, BenchmarkJob, Figures
from jobs.bench.spread import spread
from models import EMOTIONS, FLOAT, FloatConfig, ModelFolder, Portrait, load_float
from models.fast.private_cache import private_folder
from models.model_folder import derive_model
from models.pixels import to_tensor
from pipeline.common.limits import Limits
from pipeline.manifest.reader import read_manifest
from pipeline.media.mp4 import VideoWriter
from pipeline.media.planes import rgb_to_yuv420
from pipeline.media.settings import VideoSettings
from pipeline.render.clip_inputs import ClipInputs, load_inputs
from pipeline.render.continuous_batching import MotionSlots
from pipeline.render.device import choose_slots
from pipeline.render.model_runner import ModelRunner
from pipeline.render.motion_inputs import MotionInputs
from pipeline.render.settings import EngineSettings
from pipeline.storage.model_cache import POCKET, cache_explained, cache_folder, local_model

COMPARED = 8
"""Frames that are compared, at equal distances in a window."""


@dataclass(frozen=True)
class Sizes:
    """How much is measured; 0 suits the device. Tests measure less."""

    product: int = 0
    """Rows of a matrix of the ceilings."""
    copied: int = 0
    """Megabytes of their copy."""
    frame_batches: int = 2
    """Batches of frames that are decoded at a time."""
    times: int = 5
    """Turns of the released algorithm and the engine."""
    speech_seconds: int = 10
    written: int = 64
    """Megabytes that are written to the disk."""
    quality_seconds: int = 10
    whole: float = 40.0
    """Seconds up to which the released algorithm decodes the whole window."""


def full_model() -> ModelFolder:
    """The bundled model in the paper's sizes (`jobs.bench.spread`), made once on each machine.

    Its speech encoders are the bundled ones. Raises CacheError if others can write the cache.
    """
    source = local_model(POCKET)
    with cache_explained():
        cache = private_folder(cache_folder() / "benchmark")
    folder = cache / f"full-{source.hash[:16]}-2"  # a number for the code that makes it
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            with TemporaryDirectory(dir=cache) as scratch:
                made = Path(scratch) / "model"
                config = FloatConfig(content_dim=source.config.content_dim)
                large = spread(load_float(source, "cpu"), config)
                derive_model(made, source, large, name="benchmark-full", trained=True, history=())
                made.rename(folder)
    return local_model(str(folder))


class Subject:
    """The model and its inputs, each made when it is first needed."""

    def __init__(self, job: BenchmarkJob, sizes: Sizes | None = None) -> None:
        torch.set_num_threads(job.cores)
        self.job, self.sizes = job, sizes or Sizes()
        self.device = torch.device("cuda" if job.on_gpu else "cpu")
        self.gpu = self.device.type == "cuda"
        self.video = VideoSettings()
        self.failed: tuple[str, ...] = ()
        """Sections that are not done."""
        self.engine: ModelRunner | None = None
        """The engine, once it is chosen (`jobs.bench.engines`)."""
        self.report: Callable[[Figures], object] = lambda figures: None
        """Takes figures as soon as they are known, so that they are kept if the section does not end."""

    @property
    def settings(self) -> EngineSettings:
        """Settings of the engine, as a render worker on this device would have them."""
        return EngineSettings(
            device=self.device.type,
            num_gpus=1.0 if self.gpu else 0.0,
            num_cpus=float(self.job.cores),
            mode=self.job.mode,
            slots=self.job.slots,
            frame_batch=self.job.frame_batch,
        )

    @property
    def slots(self) -> int:
        """Number of clips that are sampled together."""
        return choose_slots(self.job.slots, gpu=self.gpu)

    @property
    def frame_batch(self) -> int:
        """Frames that are decoded together, unless the engine was tuned."""
        return self.job.frame_batch or (32 if self.gpu else 4)

    # --- Model and inputs --------------------------------------------------------------------------------------

    @cached_property
    def folder(self) -> ModelFolder:
        """The model folder."""
        return full_model() if self.job.model == FULL else local_model(self.job.model)

    @property
    def side(self) -> int:
        """Side of the frames, in pixels."""
        return self.folder.config.image_size

    @cached_property
    def model(self) -> FLOAT:
        """The plain model on the device."""
        model = load_float(self.folder, self.device)
        model.requires_grad_(False)
        return model

    @cached_property
    def inputs(self) -> ClipInputs:
        """The files of the demo's first clip, for the model's side."""
        clip = read_manifest(str(DEMO)).clips[0]
        return load_inputs(clip, Limits(), self.side, self.video)

    @property
    def pixels(self) -> np.ndarray:
        """Its portrait (S,S,3) uint8."""
        return self.inputs.portrait.pixels

    @cached_property
    def image(self) -> Tensor:
        """The same for the plain model (1,3,S,S)."""
        return to_tensor(self.pixels, self.device)

    def wave(self, seconds: int) -> Tensor:
        """So many seconds of its sound (1,samples) at 16 kHz, repeated if it is shorter, on the device."""
        sound = np.resize(self.inputs.track.wave, seconds * 16_000).astype(np.float32)
        return torch.from_numpy(sound)[None].to(self.device)

    @cached_property
    def speech(self) -> np.ndarray:
        """Speech features of one window (L,D), by the model's own encoders in float32."""
        from models.encoders import load_speech_encoders  # seconds, for transformers

        length = self.folder.config.window
        wave = self.wave(-(-length // 25))
        with precision(tf32=False):
            features = load_speech_encoders(self.folder, self.device).speech(wave)
        return features[0, :length].cpu().numpy()

    @cached_property
    def emotion(self) -> np.ndarray:
        """w_e (7,)."""
        return np.eye(len(EMOTIONS), dtype=np.float32)[EMOTIONS.index("happy")]

    @cached_property
    def plain_portrait(self) -> Portrait:
        """The portrait by the plain model in float32."""
        with torch.no_grad(), precision(tf32=False):
            return self.model.encode_portrait(self.image)

    @cached_property
    def plain_motion(self) -> Tensor:
        """The window's motion (L,D) by the plain model in float32."""
        with precision(tf32=False):
            return self.sample_plain(self.plain_portrait)

    @cached_property
    def compared(self) -> Tensor:
        """Numbers of the frames that are compared."""
        length = self.folder.config.window
        return torch.linspace(0, length - 1, min(COMPARED, length), device=self.device).round().long()

    @cached_property
    def expected(self) -> np.ndarray:
        """Those frames by the plain model in float32 (n,S*3/2,S) uint8."""
        return self.plain_frames(self.plain_motion)

    @torch.no_grad()
    def plain_frames(self, motion: Tensor) -> np.ndarray:
        """The compared frames of a window's motion (L,D), by the plain model in float32, one at a time."""
        with precision(tf32=False):
            parts = [
                rgb_to_yuv420(self.model.decode(self.plain_portrait, latent)).cpu()
                for latent in motion[self.compared].split(1)
            ]
        return torch.cat(parts).numpy()

    # --- Work --------------------------------------------------------------------------------------------------

    def sample_plain(self, portrait: Portrait, speech: np.ndarray | None = None) -> Tensor:
        """A window of one clip (L,D), sampled by the plain model."""
        features = torch.from_numpy(self.speech if speech is None else speech).to(self.device)[None]
        emotion = torch.from_numpy(self.emotion).to(self.device)[None]
        return self.model.sample_motion(features, portrait.motion, emotion, nfe=self.job.nfe, seeds=[0])[0]

    def sample(self, engine: ModelRunner, portrait: Portrait, slots: int) -> list[Tensor]:
        """One window each for as many clips as there are slots, (L,D) each."""
        places = MotionSlots(engine, slots)
        for _ in range(slots):
            inputs = MotionInputs(
                self.speech, self.emotion, portrait.motion[0], (2.0, 1.0, 1.0), seed=0, nfe=self.job.nfe
            )
            places.admit(inputs)
        found = []
        for advance in places.advance():
            if advance.error is not None:
                raise advance.error
            assert advance.motion is not None
            found.append(advance.motion)
        return found

    @contextmanager
    def writers(self, number: int) -> Iterator[Sequence[VideoWriter]]:
        """Encoders for this many clips; all files are complete when the context ends."""
        with TemporaryDirectory(prefix="floatcast-") as folder:
            made = [
                VideoWriter(
                    Path(folder) / f"{i}.mp4",
                    size=self.side,
                    settings=self.video,
                    sound=self.inputs.track.sound,
                    tags={},
                )
                for i in range(number)
            ]
            yield made
            for writer in made:
                writer.close()
