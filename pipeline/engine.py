"""The render stage (GPU): features -> motion -> frames -> delivered MP4. Runs without Ray.

Motion of several clips is sampled in one batch, frames of one clip are decoded in batches; encoding, verification
and upload go on in background threads while the next clip is decoded. Decoded frames never leave the process.
"""

import hashlib
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from models import MOTION_FPS, ModelFolder, Portrait, load_float
from models.flow import NfeExhaustedError
from pipeline.allocator import keep_memory
from pipeline.compute import Compute, choose_mode
from pipeline.encoders import check_encoder
from pipeline.errors import ClipError
from pipeline.features import ClipFeatures
from pipeline.settings import EngineSettings, VideoSettings, parse_fps
from pipeline.status import StatusRow, clip_row, emotion_text, emotion_weights, error_row
from pipeline.storage import cache_folder, join, put_file
from pipeline.video import VideoWriter, verify_mp4

FINISHING_CLIPS = 2
"""Clips that may still be encoding or uploading while the next is decoded: bounds the frames in memory."""


def resample_motion(motion: Tensor, frames: int, fps: Fraction) -> Tensor:
    """Motion latents (T,D) at 25 a second -> (frames,D) at `fps`, by linear interpolation.

    Frame n shows the time n / fps. Motion is linear in the latent by construction (r = Q lambda), so a latent
    between two others is a pose between theirs. At 25 fps nothing is computed.
    """
    if fps == MOTION_FPS:
        return motion[:frames]
    position = torch.arange(frames, dtype=torch.float64) * float(MOTION_FPS / fps)
    position = position.clamp(max=len(motion) - 1)
    before = position.floor().long()
    after = (before + 1).clamp(max=len(motion) - 1)
    share = (position - before).to(motion)[:, None]
    return torch.lerp(motion[before], motion[after], share)


def clip_batches(clips: Sequence[ClipFeatures], size: int) -> Iterator[list[ClipFeatures]]:
    """Batches whose clips can be sampled together (same nfe), of similar length, at most `size` each."""
    ordered = sorted(clips, key=lambda item: (item.clip.nfe, -len(item.speech)))
    for _, group in groupby(ordered, key=lambda item: item.clip.nfe):
        same = list(group)
        yield from (same[i : i + size] for i in range(0, len(same), size))


@dataclass
class _Job:
    """One clip on its way through the engine."""

    item: ClipFeatures
    portrait: Portrait | None = None
    motion: Tensor | None = None
    """(T,D) on the device."""
    seconds: dict[str, float] = field(default_factory=dict)
    row: StatusRow | None = None
    """Set when the clip has ended."""


class Engine:
    """Renders clips. One instance per worker process: it holds the model on its device."""

    def __init__(self, model: ModelFolder, settings: EngineSettings, video: VideoSettings, output: str) -> None:
        torch.set_num_threads(max(1, int(settings.num_cpus)))
        device = settings.device
        if device == "auto":
            device = "cuda" if settings.num_gpus > 0 else "cpu"
        if device == "cuda" and not torch.cuda.is_available():
            raise RuntimeError(
                "this worker is to render on a GPU, but PyTorch sees none: install a CUDA build of PyTorch on the GPU "
                "nodes, or set render.device=cpu"
            )
        self._settings = settings
        check_encoder(video)  # one that does not open here is found out now, not with the first clip
        self._video = video
        self._fps = parse_fps(video.fps)
        self._output = output
        self._device = torch.device(device)
        if device == "cpu":
            keep_memory()
        mode = choose_mode(settings.mode, gpus=settings.num_gpus, seconds=0)
        self._clip_batch = settings.clip_batch or (1 if mode == "compiled" and device == "cpu" else 8)
        self._size = model.config.image_size
        self._compute = Compute(
            load_float(model, self._device),
            mode=mode,
            clip_batch=self._clip_batch,
            frame_batch=settings.frame_batch or (32 if device == "cuda" else 4),
            portraits=settings.portrait_cache,
            weights=model.hash,
            cache=cache_folder() / "compiled",
        )
        self._columns: StatusRow = {
            "model": model.name,
            "model_hash": model.hash,
            "model_trained": model.trained,
            "solver": settings.solver,
        }
        self._tags = {"comment": f"AI-generated talking portrait; Floatcast, model {model.name} {model.hash[:12]}"}

    def process(self, items: Sequence[ClipFeatures | StatusRow]) -> list[StatusRow]:
        """One status row per item, whatever happens to a clip; rows of earlier stages pass through."""
        rows = [item for item in items if isinstance(item, dict)]
        clips = [item for item in items if isinstance(item, ClipFeatures)]
        with ThreadPoolExecutor(FINISHING_CLIPS) as background, tempfile.TemporaryDirectory() as scratch:
            finishing: deque[Future[StatusRow]] = deque()
            for number, job in enumerate(self._sampled(clips)):
                path = Path(scratch) / f"{number}.mp4"
                writer = None if job.row else _guarded(job, partial(self._decode, path=path))
                if job.row is not None:
                    rows.append(job.row)
                    continue
                assert writer is not None
                finishing.append(background.submit(self._finish_guarded, job, writer, path))
                if len(finishing) > FINISHING_CLIPS:
                    rows.append(finishing.popleft().result())
            rows += [future.result() for future in finishing]
        return [row | self._columns for row in rows]

    # --- Portrait and motion -----------------------------------------------------------------------------------

    def _sampled(self, clips: Sequence[ClipFeatures]) -> Iterator[_Job]:
        """Jobs with portrait and motion; a job that failed has its row set."""
        for batch in clip_batches(clips, self._clip_batch):
            jobs = [_Job(item) for item in batch]
            for job in jobs:
                _guarded(job, self._encode_portrait)
            ready = [job for job in jobs if job.row is None]
            try:
                self._sample(ready)
            except Exception:
                # One clip can spoil a batch (a solver out of evaluations, no memory): each gets its own try.
                for job in ready:
                    _guarded(job, lambda job: self._sample([job]))
            yield from jobs

    def _encode_portrait(self, job: _Job) -> None:
        start = time.perf_counter()
        job.portrait = self._compute.portrait(job.item.portrait)
        job.seconds["portrait"] = time.perf_counter() - start

    def _sample(self, jobs: list[_Job]) -> None:
        if not jobs:
            return
        start = time.perf_counter()
        lengths = [len(job.item.speech) for job in jobs]
        speech = torch.stack(
            [
                # Repeating the last frame is what sampling does with the rest of a clip's last window anyway.
                F.pad(torch.from_numpy(job.item.speech).T, (0, max(lengths) - length), mode="replicate").T
                for job, length in zip(jobs, lengths, strict=True)
            ]
        )
        clips = [job.item.clip for job in jobs]

        scales = [[clip.a_cfg_scale, clip.e_cfg_scale, clip.r_cfg_scale] for clip in clips]
        try:
            motion = self._compute.sample(
                speech.to(self._device),
                torch.cat([job.portrait.motion for job in jobs if job.portrait is not None]),
                torch.stack([torch.from_numpy(job.item.emotion) for job in jobs]).to(self._device),
                torch.tensor(scales, device=self._device),
                [clip.seed for clip in clips],
                nfe=clips[0].nfe,
                solver=self._settings.solver,
                tolerance=self._settings.tolerance,
            )
        except NfeExhaustedError as error:
            raise ClipError("nfe_exhausted", str(error)) from error
        spent = time.perf_counter() - start
        for job, length, one in zip(jobs, lengths, motion, strict=True):
            job.motion = one[:length]
            job.seconds["sample"] = spent * length / sum(lengths)

    # --- Frames ------------------------------------------------------------------------------------------------

    def _decode(self, job: _Job, path: Path) -> VideoWriter:
        """Decode all frames of a clip into a writer that is still encoding when this returns."""
        assert job.portrait is not None
        assert job.motion is not None
        start = time.perf_counter()
        motion = resample_motion(job.motion.cpu(), job.item.frames, self._fps).to(self._device)
        writer = VideoWriter(
            path,
            size=self._size,
            settings=self._video,
            aac=job.item.aac,
            tags=self._tags | {"title": job.item.clip.clip_id},
        )
        try:
            for batch in self._compute.frames(job.portrait, motion):
                writer.write(batch)
        except BaseException:
            writer.abandon()
            raise
        job.motion = None
        job.seconds["decode"] = time.perf_counter() - start
        return writer

    def _finish_guarded(self, job: _Job, writer: VideoWriter, path: Path) -> StatusRow:
        _guarded(job, partial(self._finish, writer=writer, path=path))
        assert job.row is not None
        return job.row

    def _finish(self, job: _Job, writer: VideoWriter, path: Path) -> None:
        """Wait for the encoder, verify the file, store it; only then is the clip done."""
        start = time.perf_counter()
        item = job.item
        writer.close()
        delivered = verify_mp4(path, frames=item.frames, fps=self._fps)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        uri = join(self._output, "videos", f"{item.clip.clip_id}.mp4")
        size = path.stat().st_size
        try:
            put_file(path, uri)
        except Exception as error:
            raise ClipError("storage_error", f"{uri} could not be written: {type(error).__name__}: {error}") from error
        path.unlink()
        job.seconds["finish"] = time.perf_counter() - start
        job.row = clip_row(item.clip) | {
            "status": "done",
            "uri": uri,
            "emotion": emotion_text(emotion_weights(item.emotion)),
            "sha256": sha256,
            "bytes": size,
            "width": self._size,
            "height": self._size,
            "frames": delivered.frames,
            "fps": float(self._fps),
            "duration": float(delivered.video_seconds),
            "audio_duration": item.audio_seconds,
            "faces_found": item.faces_found,
            "face_box": None if item.face_box is None else [round(edge, 1) for edge in item.face_box],
            **{f"{step}_seconds": round(spent, 3) for step, spent in (item.seconds | job.seconds).items()},
        }


T = TypeVar("T")


def _guarded(job: _Job, step: Callable[[_Job], T]) -> T | None:
    """Run one step of a job; an error becomes the job's row, and None is returned."""
    try:
        return step(job)
    except Exception as error:
        job.row = error_row(job.item.clip, error, "render")
    return None
