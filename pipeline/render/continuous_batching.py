"""Continuous batching of motion: a fixed number of slots, each of which samples one clip window by window.

The windows of a clip depend on each other, because each one starts where the last one ended. A batch therefore holds
the next window of every clip. When a clip ends, its slot takes the next clip at once, so the batch stays full whatever
the lengths of the clips. The batch always has the shape of all slots. This way the contents of other slots do not
change a clip's result on a CPU by a single bit, and compiled code or a CUDA graph only needs one shape.

A clip with several faces has a place for each of them. Where the slots are taken, there are more places than slots:
further banks of them, each of which is a batch of its own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from models.config import POSE_DIM
from models.fast.vector_field import kept_conditions
from models.flow import Branch
from models.sampling import choose_sampler
from models.transformer import WindowConditions
from pipeline.render.device import DeviceClock
from pipeline.render.model_runner import ModelRunner
from pipeline.render.motion_inputs import MotionInputs


@dataclass(frozen=True, eq=False)
class Advance:
    """The result of one round for one slot."""

    slot: int
    motion: Tensor | None
    """Motion latents (n,D) of the window; fewer than L at the end of the clip. None if it failed."""
    last: bool
    """The clip has ended, and its slot is free."""
    error: Exception | None = None
    sampling: float = 0.0
    """The clip's share of the time for which the device sampled the batch, s."""
    waiting: float = 0.0
    """Its share of the time for which the batch waited for work that the device had been given before, s."""


@dataclass(eq=False)
class _Place:
    inputs: MotionInputs
    window: int = 0
    group: tuple[object, ...] = ()
    """What the next window must have in common with others of its batch. With spans it changes between windows."""


class MotionSlots:
    """Samples up to `count` clips at the same time. Not thread-safe."""

    def __init__(self, runner: ModelRunner, count: int, *, solver: str = "auto", tolerance: float = 1e-3) -> None:
        """Raises ValueError for a solver that does not suit the model's objective."""
        config = runner.model.config
        self._runner, self._tolerance = runner, tolerance
        self._solver = choose_sampler(config.objective, solver)
        self._poses = config.pose != "none"
        self._length, self._previous, self._dim = config.window, config.previous, config.latent_dim
        self._count = count
        self._places: list[_Place | None] = [None] * count
        # State of all slots, on the device, to which everything is sent without waiting for work that is queued there.
        self._motion = torch.zeros(count, config.previous, config.latent_dim, device=runner.device)
        self._context = torch.zeros_like(self._motion)
        self._turned = torch.zeros(count, config.previous, POSE_DIM, device=runner.device)
        self._reference = torch.zeros(count, config.latent_dim, device=runner.device)
        self._emotion = torch.zeros(count, 7, device=runner.device)

    @property
    def free(self) -> list[int]:
        """Numbers of the free slots."""
        return [slot for slot, place in enumerate(self._places[: self._count]) if place is None]

    @property
    def speech_dim(self) -> int:
        """Length of a speech feature."""
        return self._dim

    def admit(self, inputs: MotionInputs, *, beside: bool = False) -> int:
        """Put a clip into the first free slot and return the slot's number. One that belongs `beside` another, as a
        further face of the same picture, gets a place in any case.

        Raises ValueError if the speech has a wrong shape.
        """
        if inputs.speech.ndim != 2 or inputs.speech.shape[1] != self._dim or not len(inputs.speech):
            raise ValueError(f"speech must be (T,{self._dim}) with T of 1 or more, got {inputs.speech.shape}")
        if (inputs.pose is not None) != self._poses:
            raise ValueError(f"head poses {'are missing' if self._poses else 'were given, but the model takes none'}")
        if inputs.pose is not None and inputs.pose.shape != (len(inputs.speech), POSE_DIM):
            raise ValueError(
                f"pose must have the length of the speech, ({len(inputs.speech)},{POSE_DIM}), got {inputs.pose.shape}"
            )
        if inputs.track is not None and len(inputs.track) != len(inputs.speech):
            raise ValueError(f"{len(inputs.track)} frames of emotion for {len(inputs.speech)} of speech")
        slot = self._free_place() if beside else self.free[0]
        start = inputs.start
        self._motion[slot] = 0 if start is None else self._sent(torch.from_numpy(start.motion))
        self._context[slot] = 0 if start is None else self._sent(torch.from_numpy(start.speech))
        self._turned[slot] = 0 if start is None else self._sent(torch.from_numpy(start.pose))
        self._reference[slot] = inputs.reference_motion
        self._emotion[slot] = self._sent(torch.from_numpy(inputs.emotion))
        place = self._places[slot] = _Place(inputs)
        place.group = self._group(place)
        return slot

    def _free_place(self) -> int:
        """The first free place, in a new bank if there is none."""
        if all(self._places):
            self._places += [None] * self._count
            for name in ("_motion", "_context", "_turned", "_reference", "_emotion"):
                state: Tensor = getattr(self, name)
                setattr(self, name, torch.cat([state, torch.zeros_like(state[: self._count])]))
        return next(slot for slot, place in enumerate(self._places) if place is None)

    def release(self, slot: int) -> None:
        """Drop the clip of a slot."""
        self._places[slot] = None

    def advance(self) -> Iterator[Advance]:
        """Sample the next window of every clip. Clips with the same nfe and guidance branches share a batch.

        An error ends only the clip that caused it: the other clips of the batch are sampled again, one by one.
        """
        groups: dict[tuple[object, ...], list[int]] = {}
        for slot, place in enumerate(self._places):
            if place is not None:
                groups.setdefault((slot // self._count, *place.group), []).append(slot)
        for group in groups.values():
            slots = [slot for slot in group if self._places[slot] is not None]  # others may have been given up since
            if not slots:
                continue
            advances, failure = self._attempt(slots, whole=True)
            yield from advances
            if failure == "memory":
                torch.cuda.empty_cache()
                yield from self._sample_halves(slots)
            elif failure:
                for slot in slots:
                    yield from self._sample_alone(slot, whole=True)

    def _attempt(self, slots: Sequence[int], *, whole: bool) -> tuple[list[Advance], Literal["", "memory", "error"]]:
        """`_sample`, and what stopped it. Only when this has returned are the error and, with its traceback, the failed
        activations gone.
        """
        try:
            return self._sample(slots, whole=whole), ""
        except torch.OutOfMemoryError:
            return [], "memory"
        except Exception:
            return [], "error"

    def _sample_halves(self, slots: Sequence[int]) -> Iterator[Advance]:
        """If memory is short, sample half of the clips at a time, without the other slots, down to a single clip."""
        half = (len(slots) + 1) // 2
        for part in filter(None, (slots[:half], slots[half:])):
            advances, failure = self._attempt(part, whole=False)
            yield from advances
            if failure == "memory" and len(part) > 1:
                torch.cuda.empty_cache()
                yield from self._sample_halves(part)
            elif failure:
                for slot in part:
                    yield from self._sample_alone(slot, whole=False)

    def _sample_alone(self, slot: int, *, whole: bool) -> list[Advance]:
        try:
            return self._sample([slot], whole=whole)
        except Exception as error:
            self.release(slot)
            return [Advance(slot, None, last=True, error=error)]

    @torch.no_grad()
    def _sample(self, slots: Sequence[int], *, whole: bool) -> list[Advance]:
        """Sample the windows of the clips in `slots`, in a batch of all slots or, to save memory, in a batch of these
        alone.
        """
        clock = DeviceClock(self._motion.device)
        # Slots that are not in `slots` repeat one that is: this costs nothing more, and they cannot fail on their
        # own.
        bank = slots[0] // self._count * self._count
        every = range(bank, bank + self._count)
        rows = [slot if slot in slots else slots[0] for slot in every] if whole else list(slots)
        take = self._sent(torch.tensor(rows))
        places = [place for place in (self._places[row] for row in rows) if place is not None]
        branches = self._branches(places)
        weights = self._sent(torch.stack([branch.weight for branch in branches]))
        branches = [replace(branch, weight=weight) for branch, weight in zip(branches, weights, strict=True)]
        speech = self._windows([place.inputs.speech for place in places], places)
        pose = (
            self._windows([p.inputs.pose for p in places if p.inputs.pose is not None], places) if self._poses else None
        )
        noise = [place.inputs.noise(place.window, self._length, self._dim) for place in places]
        known = WindowConditions(
            speech,
            self._felt(places, take),
            self._reference[take],
            self._motion[take],
            self._context[take],
            pose,
            None if pose is None else self._turned[take],
        )
        x = self._runner.sample(
            branches,
            known,
            self._sent(torch.stack(noise)),
            nfe=places[0].inputs.nfe,
            sampler=self._solver,
            tolerance=self._tolerance,
        )
        sampling, waiting = (seconds / len(slots) for seconds in clock.stop())
        advances = []
        for number, slot in enumerate(slots):
            row = slot - bank if whole else number
            place = self._places[slot]
            assert place is not None
            self._motion[slot], self._context[slot] = x[row, -self._previous :], speech[row, -self._previous :]
            if pose is not None:
                self._turned[slot] = pose[row, -self._previous :]
            left = len(place.inputs.speech) - place.window * self._length
            place.window += 1
            if place.inputs.track is not None:
                place.group = self._group(place)
            last = left <= self._length
            if last:
                self.release(slot)
            motion = x[row, : min(left, self._length)]
            advances.append(Advance(slot, motion, last, sampling=sampling, waiting=waiting))
        return advances

    def _group(self, place: _Place) -> tuple[object, ...]:
        """Clips in one batch take the same steps through the same branches of the guided vector field."""
        return (place.inputs.nfe, *kept_conditions(self._branches([place])))

    def _branches(self, places: Sequence[_Place]) -> list[Branch]:
        """Branches of the next window of these clips. Weights are by frame if one of the clips has spans.

        On the CPU, because to tell which branches there are is to read values.
        """
        audio, emotion, reference = torch.tensor([place.inputs.scales for place in places]).unbind(1)
        if any(place.inputs.track is not None for place in places):
            emotion = torch.stack([self._strength(place) for place in places]) * emotion[:, None]
        return self._runner.model.branches(audio, emotion, reference)

    def _strength(self, place: _Place) -> Tensor:
        if place.inputs.track is None:
            return torch.ones(self._length)
        return torch.from_numpy(place.inputs.track.window(place.window * self._length, self._length).strength)

    def _felt(self, places: Sequence[_Place], take: Tensor) -> Tensor:
        """Emotion of the next window (B,7), or, if one of the clips has spans, of its frames with those before it
        (B,P+L,7).
        """
        if all(place.inputs.track is None for place in places):
            return self._emotion[take]
        count, parts = self._previous + self._length, []
        for place in places:
            track, start = place.inputs.track, place.window * self._length - self._previous
            still = np.broadcast_to(place.inputs.emotion, (count, len(place.inputs.emotion)))
            parts.append(still if track is None else track.window(start, count).emotion)
        return self._sent(torch.from_numpy(np.stack(parts)))

    def _windows(self, tracks: Sequence[np.ndarray], places: Sequence[_Place]) -> Tensor:
        """The next window of each clip's speech or poses (T,C) -> (B,L,C), padded at the end by repeating the last
        frame.
        """
        parts = []
        for track, place in zip(tracks, places, strict=True):
            start = place.window * self._length
            part = track[start : start + self._length]
            parts.append(np.pad(part, ((0, self._length - len(part)), (0, 0)), mode="edge"))
        return self._sent(torch.from_numpy(np.stack(parts)))

    def _sent(self, values: Tensor) -> Tensor:
        """Values on the CPU -> the same on the device, as soon as it gets there. A blocking copy would wait for it."""
        return values.to(self._motion.device, non_blocking=True)
