"""Small training shards, as `jobs.prepare` writes them, made in a moment: moving colours and smooth motion."""

import tempfile
from pathlib import Path

import numpy as np

from pipeline.storage.uris import join
from pipeline.training_data.cutting import ClipWriter
from pipeline.training_data.settings import ClipSettings
from pipeline.training_data.shards import CLIP_SCHEMA, CLIPS, LATENT_SCHEMA, LATENTS, write_shard
from tests.tiny import CONFIG

SPLITS = ("train", "train", "validation")
FRAMES = 90


def pictures(number: int, frames: int = FRAMES, size: int = 32) -> np.ndarray:
    """(frames,size,size,3) uint8: a bright disc that goes round on a ground of the clip's own colour."""
    y, x = np.mgrid[:size, :size] / size
    ground = np.array([60 + 50 * number, 90, 160 - 40 * number]) * np.ones((size, size, 1)) * (0.6 + 0.4 * y[..., None])
    found = []
    for angle in np.linspace(0, 4 * np.pi, frames):
        disc = np.hypot(x - 0.5 - 0.2 * np.cos(angle), y - 0.5 - 0.2 * np.sin(angle)) < 0.2
        found.append(np.where(disc[..., None], (240, 220, 200 - 60 * number), ground))
    return np.stack(found).astype(np.uint8)


def sample(number: int, frames: int = FRAMES) -> dict:
    """What both kinds of shards have."""
    return {
        "clip_id": f"clip-{number}",
        "split": SPLITS[number % len(SPLITS)],
        "speaker": f"speaker {number}",
        "source": f"{number}.mp4",
        "start": 0.0,
        "end": frames / 25,
        "fps": 25.0,
        "frames": frames,
        "pose": smooth(number, frames, 6),
    }


def smooth(seed: int, frames: int, dim: int) -> np.ndarray:
    """(frames,dim) float32: slow waves."""
    draw = np.random.default_rng(seed)
    time = np.arange(frames)[:, None] / 25
    return np.sin(2 * np.pi * time * draw.uniform(0.2, 1, dim) + draw.uniform(0, 6, dim)).astype(np.float32)


def known_curves(frames: int) -> np.ndarray:
    """(frames,3) float32: where the disc of `pictures` is, and a curve that never moves."""
    angle = np.linspace(0, 4 * np.pi, frames)
    return np.stack([np.cos(angle), 5 + 0.1 * np.sin(angle), np.full(frames, 0.5)], axis=1).astype(np.float32)


def write_prepared(
    folder: str, *, clips: int = 3, frames: int = FRAMES, metadata: dict | None = None, curves: bool = False
) -> str:
    """Clips and latents of `clips` speakers, the third of three held out; latents have the tiny model's shapes."""
    boxes = np.array([[0.2, 0.2, 0.45, 0.4], [0.55, 0.2, 0.8, 0.4], [0.3, 0.6, 0.7, 0.9]], np.float32)
    rows, latents = [], []
    for number in range(clips):
        writer = ClipWriter(ClipSettings(size=32, crf=4))
        for picture in pictures(number, frames):
            writer.write(picture)
        wave = np.zeros(frames * 640, np.int16)
        box = [0.0, 0.0, 32.0, 32.0]
        components = np.tile(boxes, (frames, 1, 1))
        video = writer.close()
        rows.append(
            sample(number, frames)
            | {"size": 32, "crop_box": box, "components": components, "video": video, "wave": wave}
            | ({"curves": known_curves(frames)} if curves else {})
        )
        latents.append(
            sample(number, frames)
            | {
                "motion": smooth(100 + number, frames, CONFIG.latent_dim),
                "content": smooth(200 + number, frames, CONFIG.content_dim).astype(np.float16),
                "speech_emotion": np.full(7, 1 / 7, np.float32),
            }
        )
    shapes = {"latent_dim": str(CONFIG.latent_dim), "content_dim": str(CONFIG.content_dim)} | (metadata or {})
    with tempfile.TemporaryDirectory() as scratch:
        write_shard(rows, join(folder, CLIPS, "a.parquet"), CLIP_SCHEMA, Path(scratch))
        schema = LATENT_SCHEMA.with_metadata(shapes)
        write_shard(latents, join(folder, LATENTS, "a.parquet"), schema, Path(scratch))
    return folder
