"""Motion at 25 frames per second -> motion at the frame rate of the video, window by window."""

from fractions import Fraction

import torch
from torch import Tensor

from models import MOTION_FPS


class MotionResampler:
    """Converts the windows of one clip into the motion latents of its frames, by linear interpolation.

    Frame n shows the time n / fps. Motion is linear in the latent by construction (r = Q lambda), so a latent between
    two others is a pose between theirs. At 25 fps nothing is computed. Only latents that are still needed are kept.
    """

    def __init__(self, motions: int, frames: int, fps: Fraction) -> None:
        """`motions` is the total number of latents that will come in, `frames` the total number to return."""
        self._last, self._frames = motions - 1, frames
        self._step = MOTION_FPS / fps
        self._kept: Tensor | None = None
        self._first = 0  # number of the first latent that is kept
        self._next = 0  # number of the next frame

    def push(self, window: Tensor) -> Tensor:
        """Take the next latents (n,D) of the clip, and return the latents (m,D) of all frames that they complete."""
        kept = window if self._kept is None else torch.cat([self._kept, window])
        known = self._first + len(kept)
        if self._step == 1:
            self._first = known
            count = min(known, self._frames) - self._next
            self._next += count
            return kept[:count]
        # Exact, in integers: n * 25 / fps = before + share.
        before, shares = [], []
        while self._next < self._frames:
            position = min(self._next * self._step, Fraction(self._last))
            whole = position.__floor__()
            if min(whole + 1, self._last) >= known:
                break
            before.append(whole - self._first)
            shares.append(float(position - whole))
            self._next += 1
        # Sent without waiting for what the device has to do before.
        index = torch.tensor(before, dtype=torch.long).to(kept.device, non_blocking=True)
        share = torch.tensor(shares, dtype=kept.dtype)[:, None].to(kept.device, non_blocking=True)
        after = (index + 1).clamp(max=self._last - self._first)
        frames = torch.lerp(kept[index], kept[after], share)
        start = min((self._next * self._step).__floor__(), known) - self._first
        self._kept, self._first = kept[start:], self._first + start
        return frames
