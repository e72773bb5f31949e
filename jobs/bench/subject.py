"""What is measured: a model, and random inputs of one window of motion."""

import io
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import torch

from jobs.bench.job import BenchmarkJob
from models import FLOAT, FloatConfig, Portrait, load_float
from models.pixels import to_tensor
from pipeline.media.mp4 import VideoWriter
from pipeline.media.settings import VideoSettings
from pipeline.render.continuous_batching import MotionInputs, MotionSlots
from pipeline.render.model_runner import ModelRunner
from pipeline.storage.model_cache import POCKET, cache_folder, local_model


def silence(length: float) -> bytes:
    """AAC in MP4, as the feature stage hands it over."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream("aac", rate=48_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, round(length * 48_000)), np.float32), "fltp", "mono")
        frame.sample_rate = 48_000
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return buffer.getvalue()


class Subject:
    """The model, and random inputs of one window."""

    def __init__(self, job: BenchmarkJob, device: torch.device) -> None:
        torch.manual_seed(0)
        self.job, self.device = job, device
        if job.model == POCKET:
            folder = local_model(POCKET)
            self.model, self.weights = load_float(folder, device), folder.hash
        else:
            self.model, self.weights = FLOAT(FloatConfig()).eval().to(device), "benchmark-full-seed-0"
        self.model.requires_grad_(False)
        config = self.model.config
        self.side, self.window, self.dim = config.image_size, config.window, config.latent_dim
        random = np.random.default_rng(0)
        self.pixels = random.integers(0, 256, (self.side, self.side, 3), dtype=np.uint8)
        self.image = to_tensor(self.pixels, device)
        self.speech = random.standard_normal((self.window, self.dim), dtype=np.float32)
        self.emotion = np.eye(7, dtype=np.float32)[3]
        self.video = VideoSettings()
        self.aac = silence(self.window / 25)

    def engine(self, mode: str, frame_batch: int) -> ModelRunner:
        """The model runner of the engine, compiled if the mode says so."""
        return ModelRunner(
            self.model,
            mode=mode,
            frame_batch=frame_batch,
            weights=self.weights,
            cache=cache_folder() / "compiled",
        )

    def sample_plain(self, portrait: Portrait) -> torch.Tensor:
        """A window of one clip (L,D), sampled by the plain model."""
        speech = torch.from_numpy(self.speech).to(self.device)[None]
        emotion = torch.from_numpy(self.emotion).to(self.device)[None]
        return self.model.sample_motion(speech, portrait.motion, emotion, nfe=self.job.nfe, seeds=[0])[0]

    def sample(self, engine: ModelRunner, portrait: Portrait, slots: int) -> list[torch.Tensor]:
        """One window each for as many clips as there are slots, (L,D) each."""
        places = MotionSlots(engine, slots)
        for _ in range(slots):
            inputs = MotionInputs(
                self.speech, self.emotion, portrait.motion[0], (2.0, 1.0, 1.0), seed=0, nfe=self.job.nfe
            )
            places.admit(inputs)
        return [advance.motion for advance in places.advance() if advance.motion is not None]

    @contextmanager
    def writers(self, number: int) -> Iterator[list[VideoWriter]]:
        """Encoders for this many clips; all files are complete when the context ends."""
        with tempfile.TemporaryDirectory() as folder:
            made = [
                VideoWriter(Path(folder) / f"{i}.mp4", size=self.side, settings=self.video, aac=self.aac, tags={})
                for i in range(number)
            ]
            yield made
            for writer in made:
                writer.close()
