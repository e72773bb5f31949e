"""Samples -> inputs of the second phase of training: motion latents and speech features. Runs without Ray."""

import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import torch
import torch.nn.functional as F

from models import ModelFolder, load_float
from models.learning.frozen import FrozenEncoder
from models.pixels import to_tensor
from models.speech import normalize_waveform
from pipeline.common.broken_device import end_process, is_device_failure
from pipeline.common.stage import Resources, Stage
from pipeline.common.watchdog import Watchdog
from pipeline.ledger.done_store import DONE
from pipeline.run.fingerprint import fingerprint
from pipeline.storage.model_cache import local_model
from pipeline.storage.objects import filesystem
from pipeline.storage.uris import join
from pipeline.training_data.damaged import damaged_shards
from pipeline.training_data.places import DONE_LATENTS, Places, Sidecar
from pipeline.training_data.reasons import Dropped
from pipeline.training_data.shards import LATENT_SCHEMA, LATENTS, write_shard

logger = logging.getLogger(__name__)

VERSION = 1
"""Version of the results for the same samples and model."""

BATCH = 16
"""Number of frames that are encoded together."""

STAGE = "latents"


@dataclass(frozen=True)
class Shard:
    """The samples of one video, to be encoded."""

    key: str
    frames: int
    fingerprint: str
    """The same as long as the same latents would be computed."""


def plan_latents(places: Places, model: ModelFolder) -> tuple[list[Shard], list[Shard]]:
    """(shards to encode, shards that are done with these encoders).

    Removes latents whose samples no longer exist, and at once those of other encoders: training must not find both.
    """
    done = {sidecar["key"]: sidecar["fingerprint"] for sidecar in places.each(DONE_LATENTS)}
    samples = [(sidecar["key"], sidecar["samples"]) for sidecar in places.each(DONE_LATENTS)]
    for key in damaged_shards(join(places.output, LATENTS), samples):
        places.forget_latents(key)  # a worker would find the sidecar and take them for done
        del done[key]
    encoders = model.encoders_hash()
    todo: list[Shard] = []
    ready: list[Shard] = []
    for sidecar in places.each(DONE):
        key = sidecar["key"]
        frames = sum(row["frames"] for row in sidecar["rows"] if row["status"] == "accepted")
        before = done.pop(key, None)
        if not frames:
            if before is not None:
                places.forget_latents(key)
            continue
        mark = fingerprint({"version": VERSION, "clips": sidecar["fingerprint"], "encoders": encoders})
        if before not in (None, mark):
            places.forget_latents(key)
        (ready if before == mark else todo).append(Shard(key, frames, mark))
    for key in done:
        places.forget_latents(key)
    return todo, ready


class LatentStage(Stage):
    """Shards of clips -> shards of latents. A worker holds the model's encoders."""

    name = "latents"

    def __init__(
        self, places: Places, source: str, video_minutes: float = 240.0, resources: Resources | None = None
    ) -> None:
        """`source` is that of the model, as for `local_model`."""
        self.resources = resources or Resources()
        self._places, self._source, self._video_minutes = places, source, video_minutes

    def setup(self) -> None:
        """Load the encoders, onto a GPU if the worker has one and PyTorch finds it."""
        from models.encoders import load_face_emotion, load_speech_encoders  # takes seconds because of transformers

        model = local_model(self._source)
        torch.set_num_threads(self.resources.threads)
        self._device = "cuda" if self.resources.gpus and torch.cuda.is_available() else "cpu"
        self._watchdog = Watchdog(self._video_minutes)
        self._config = model.config
        self._encoder = FrozenEncoder(load_float(model, self._device).autoencoder)
        self._speech = load_speech_encoders(model, self._device)
        self._face_emotion = load_face_emotion(model, self._device)
        self._schema = LATENT_SCHEMA.with_metadata(
            {
                "model_hash": model.hash,
                "encoders_hash": model.encoders_hash(),  # it stays the same when the transformer is trained
                "latent_dim": str(self._config.latent_dim),
                "content_dim": str(self._config.content_dim),
            }
        )

    def process(self, shards: Sequence[Shard]) -> Iterator[Sidecar]:
        """Yield one sidecar per shard, with `status` done or failed, in order. Never raises for a shard."""
        for shard in shards:
            yield self._one(shard)

    def close(self) -> None:
        """Stop the watchdog."""
        self._watchdog.close()

    def _one(self, shard: Shard) -> Sidecar:
        about = {"key": shard.key, "fingerprint": shard.fingerprint}
        try:
            known = self._places.read(shard.key, DONE_LATENTS)
            if known is not None and known["fingerprint"] == shard.fingerprint:
                return known
            self._places.forget_latents(shard.key)
            self._places.begin(shard.key, STAGE)
            self._watchdog.begin(shard.key)
            try:
                with tempfile.TemporaryDirectory(prefix="floatcast-") as name:
                    uri = self._places.latents(shard.key)
                    samples = write_shard(self._rows(shard), uri, self._schema, Path(name))
            finally:
                self._watchdog.end(shard.key)
                self._places.end(shard.key, STAGE)
            sidecar = about | {"status": "done", "samples": samples, "frames": shard.frames}
            self._places.write(shard.key, sidecar, DONE_LATENTS)
            return sidecar
        except Exception as error:
            if self._device == "cuda" and is_device_failure(error):  # every further shard would fail too
                end_process("its GPU failed", error)
            dropped = Dropped.of(error)
            logger.error("samples of %s", shard.key, exc_info=error)
            return about | {"status": "failed", "error_code": dropped.code, "message": dropped.message}

    def _rows(self, shard: Shard) -> Iterator[dict[str, Any]]:
        fs, path = filesystem(self._places.clips(shard.key))
        with fs.open(path, "rb") as file:
            table = pq.ParquetFile(file, pre_buffer=False)
            for group in range(table.num_row_groups):
                for row in table.read_row_group(group).to_pylist():
                    yield row | self._encoded(row)

    @torch.no_grad()
    def _encoded(self, row: dict[str, Any]) -> dict[str, Any]:
        wave = np.frombuffer(row["wave"], np.int16).astype(np.float32) / 2**15
        sound = torch.from_numpy(wave)[None].to(self._device)
        # As in rendering: zero mean and unit variance over the whole clip.
        content = self._speech.content(normalize_waveform(sound))[0]
        motion, seen = [], None
        for images in self._images(row["video"]):
            motion.append(self._encoder.encode(images, features=False).motion.float().cpu())
            if seen is None and self._face_emotion is not None:
                seen = self._face_emotion(images[:1])[0].cpu().numpy().astype(np.float32)
        latents = torch.cat(motion).numpy()
        if len(latents) != row["frames"] or len(content) != row["frames"]:
            raise ValueError(
                f"{row['clip_id']}: {len(latents)} frames and {len(content)} speech features for {row['frames']} frames"
            )
        return {
            "motion": latents,
            "content": content.cpu().numpy().astype(np.float16),
            "speech_emotion": self._speech.emotion(sound)[0].cpu().numpy().astype(np.float32),
            "image_emotion": seen,
        }

    def _images(self, video: bytes) -> Iterator[torch.Tensor]:
        """Frames in batches (B,3,S,S) in [-1,1]; S is the model's image size."""
        size = self._config.image_size
        batch: list[np.ndarray] = []

        def ready() -> torch.Tensor:
            images = to_tensor(np.stack(batch), self._device)
            batch.clear()
            if images.shape[-1] != size:
                images = F.interpolate(images, (size, size), mode="bicubic", antialias=True).clamp(-1, 1)
            return images

        with av.open(io.BytesIO(video), "r") as file:
            for frame in file.decode(video=0):
                batch.append(frame.to_ndarray(format="rgb24"))
                if len(batch) == BATCH:
                    yield ready()
        if batch:
            yield ready()
