"""Phase 2: the transformer learns the motion of a window from speech, emotion and the previous motion."""

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models import FLOAT, MOTION_FPS
from models.learning.objectives import MotionObjective
from models.pixels import to_images, to_tensor
from pipeline.media.contact_sheet import comparison_sheet
from pipeline.storage.uris import join
from pipeline.training.adapters import add_adapters, has_adapters, merge_adapters
from pipeline.training.frames import read_frames
from pipeline.training.learner import Learner
from pipeline.training.samples import HELD_OUT, MotionWindows
from pipeline.training.settings import TrainSettings
from pipeline.training.stage import SHOWN, Sums, Validation, copy_of, count, means, micro_batches, training_and_held_out
from pipeline.training.world import World
from pipeline.training_data.shards import CLIPS, LATENTS, Shards

LONGEST = 10 * MOTION_FPS
"""Number of frames that a validation samples of a clip."""


class MotionStage:
    """Phase 2: the transformer and the speech projection, or low-rank adapters of the transformer."""

    def __init__(self, model: FLOAT, settings: TrainSettings, world: World) -> None:
        self._model, self._settings, self._world = model, settings, world
        train, self._held_out = training_and_held_out(join(settings.data, LATENTS))
        motion = settings.motion
        self.samples = MotionWindows(train, model.config, motion.dropout, motion.labels, motion.across)
        model.requires_grad_(False)
        objective = MotionObjective(model, settings.motion.weights)
        if settings.adapter.rank:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(settings.optimiser.seed)
                alpha = settings.adapter.alpha or 2.0 * settings.adapter.rank
                add_adapters(model.transformer, settings.adapter.rank, alpha)
        else:
            objective.requires_grad_(True)
        self.learners = {"motion": Learner(objective, settings.optimiser, settings.learning_rate, world)}

    def update(self, batch: Any, step: int) -> Sums:
        """One step of the motion objective."""
        sums: Sums = {}
        settings, world = self._settings.optimiser, self._world
        learner = self.learners["motion"]
        for part, last in micro_batches(batch, settings.micro_batch, world.device):
            with learner.micro_batch(last):
                with world.autocast(settings.dtype):
                    loss, terms = learner.run(part)
                learner.backward(loss, settings.batch)
            count(sums, terms | {"loss": loss.detach()})
        sums["gradient_norm"] = learner.step(step) * len(batch)
        return sums

    @torch.no_grad()
    def validate(self) -> Validation | None:
        """Measure the loss on held-out windows, and how much a sampled clip moves compared with the true one."""
        if self._held_out is None:
            return None
        windows = MotionWindows(self._held_out, self._model.config, self._settings.motion.dropout)
        seed, wanted = self._settings.optimiser.seed, self._settings.watch.samples
        drawn = [windows.sample(seed, HELD_OUT, place) for place in range(wanted)]
        learner = self.learners["motion"]
        figures: Sums = {}
        with learner.averaged():
            for part, _ in micro_batches(windows.collate(drawn), 8, self._world.device):
                loss, terms = learner.module(part)
                count(figures, terms | {"loss": loss})
            found = means(figures, wanted)
            true, sampled, clip = self._sampled(windows)
            # 0 is a head that does not move, 1 one that moves as much as the speaker did.
            found["spread"] = (sampled.std(0).norm() / true.std(0).norm().clamp_min(1e-6)).item()
            return Validation(found, self._sheet(true, sampled, clip))

    def _sampled(self, windows: MotionWindows) -> tuple[Tensor, Tensor, int]:
        """True and sampled motion (T,D) of the longest held-out clip, at most 10 s of it."""
        assert self._held_out is not None
        clip = int(self._held_out.frames.argmax())
        frames = min(LONGEST, int(self._held_out.frames[clip]))
        one = windows.collate([windows.window(clip, 0, np.random.default_rng(0))]).to(self._world.device)
        row = self._held_out.read(clip, "motion", "content", "pose")
        device = self._world.device
        true, content = (
            torch.from_numpy(row[name][:frames].astype(np.float32)).to(device) for name in ("motion", "content")
        )
        pose = None
        if self._model.config.pose == "head":
            pose = torch.from_numpy(row["pose"][None, :frames].copy()).to(device)
        sampled = self._model.sample_motion(
            self._model.project_speech(content[None]), true[:1], one.emotion, pose=pose, seeds=[0]
        )[0]
        return true, sampled, clip

    @cached_property
    def _clips(self) -> Shards | None:
        """Clips of held-out speakers for images; searched for once."""
        try:
            return Shards(join(self._settings.data, CLIPS), ["validation"])
        except FileNotFoundError:
            return None

    def _sheet(self, true: Tensor, sampled: Tensor, clip: int) -> bytes | None:
        """Both motions as frames of the clip's first frame; None if the clips are not stored next to the latents."""
        assert self._held_out is not None
        name = self._held_out.rows[clip]["clip_id"]
        clips = self._clips
        place = next((place for place, row in enumerate(clips.rows if clips else ()) if row["clip_id"] == name), None)
        if clips is None or place is None:
            return None
        video = clips.read(place, "video")["video"]
        times = np.linspace(0, len(true) - 1, SHOWN).round().astype(int).tolist()
        size = self._model.config.image_size
        portrait = self._model.encode_portrait(to_tensor(read_frames(video, [0], size)).to(self._world.device))
        rows = {"real video": list(read_frames(video, times, size))}
        for label, motion in (("its own motion", true), ("motion sampled from its speech", sampled)):
            rows[label] = list(to_images(self._model.decode(portrait, motion[times])))
        return comparison_sheet(rows, f"held-out clip {name}, {len(true) / MOTION_FPS:.1f} s")

    def finished(self) -> FLOAT:
        """The model with averaged weights, into which adapters are merged."""
        with self.learners["motion"].averaged():
            if has_adapters(self._model.transformer):
                merge_adapters(self._model.transformer)
            return copy_of(self._model, {name: value.clone() for name, value in self._model.state_dict().items()})
