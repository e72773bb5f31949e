"""The model on its device, run in one of three ways that give the same frames.

reference   the plain modules of `models.FLOAT`, with which the others are compared
eager       the fast decoder and vector field
compiled    the same, compiled ahead of time with fixed shapes, so that one package serves every clip
"""

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models import FLOAT, Portrait
from models.fast.compiled import compiled, has_compiler
from models.fast.decoder import FastDecoder
from models.fast.vector_field import FastField, Kept, kept_conditions
from models.flow import Branch, Field
from models.pixels import to_tensor
from models.transformer import WindowConditions
from pipeline.media.mp4 import rgb_to_yuv420
from pipeline.storage.model_cache import cache_explained

logger = logging.getLogger(__name__)

COMPILE_SECONDS = 300.0
"""Audio per actor from which compiling (one to two minutes on a CPU) pays off."""


def choose_mode(mode: str, *, gpus: float, seconds: float) -> str:
    """The mode that `auto` means for an actor with this many GPUs that renders this many seconds of audio.

    Nothing has been measured on a GPU yet, so `auto` does not choose what has never run there.
    """
    if mode != "auto":
        return mode
    return "compiled" if not gpus and seconds >= COMPILE_SECONDS and has_compiler() else "eager"


class YuvDecoder(nn.Module):
    """Latents (N,D) and features of one portrait -> Y'CbCr 4:2:0 frames (N,S*3/2,S) uint8, on the device."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, latent: Tensor, features: list[Tensor]) -> Tensor:
        """Decode and convert in one call, so that a compiler sees both."""
        return rgb_to_yuv420(self.decoder(latent, features))


class ModelRunner:
    """Portraits, motion and frames of one model. Only this class knows how they are computed."""

    def __init__(
        self,
        model: FLOAT,
        *,
        mode: str,
        frame_batch: int,
        portraits: int = 8,
        weights: str = "",
        cache: Path | None = None,
    ) -> None:
        """`weights` identifies the model, and `cache` is the folder of compiled packages.

        Only mode compiled needs them.
        """
        if mode not in ("reference", "eager", "compiled"):
            raise ValueError(f"mode must be reference, eager or compiled, got {mode!r}")
        self.model, self.mode = model, mode
        self.frame_batch = frame_batch
        self.device = model.autoencoder.decoder.constant.device
        self._known: OrderedDict[str, Portrait] = OrderedDict()
        self._capacity = portraits
        self._weights, self._cache = weights, cache
        self._fields: dict[tuple[Kept, ...], tuple[FastField, Callable[..., Tensor]]] = {}
        decoder = model.autoencoder.decoder
        fast = YuvDecoder(decoder if mode == "reference" else FastDecoder(decoder)).eval()
        self._decode: Callable[..., Tensor] = fast
        if mode == "compiled":
            config = model.config
            latent = torch.zeros(frame_batch, config.latent_dim, device=self.device)
            features = [
                torch.zeros(1, c, n, n, device=self.device).contiguous(memory_format=torch.channels_last)
                for c, n in zip(config.channels[1:], config.resolutions[1:], strict=True)
            ]
            self._decode = self._compiled(fast, (latent, features))

    def _compiled(self, module: nn.Module, inputs: tuple[object, ...]) -> Callable[..., Tensor]:
        assert self._cache is not None
        with cache_explained():
            return compiled(module, inputs, weights=self._weights, cache=self._cache)

    @torch.no_grad()
    def portrait(self, pixels: np.ndarray) -> Portrait:
        """(S,S,3) uint8 RGB -> its latents and features. The last few images are cached by content."""
        key = hashlib.sha256(pixels.tobytes()).hexdigest()
        if key not in self._known:
            portrait = self.model.encode_portrait(to_tensor(pixels, self.device))
            if self.mode != "reference":
                features = [f.contiguous(memory_format=torch.channels_last) for f in portrait.features]
                portrait = Portrait(portrait.identity, portrait.coefficients, portrait.motion, features)
            self._known[key] = portrait
            if len(self._known) > self._capacity:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]

    def forget_portraits(self) -> None:
        """Clear the cache, so that the next portrait is encoded again."""
        self._known.clear()

    def frames(self, portrait: Portrait, motion: Tensor) -> Iterator[np.ndarray]:
        """The frames of `decoded` on the host."""
        return (batch.cpu().numpy() for batch in self.decoded(portrait, motion))

    @torch.no_grad()
    def decoded(self, portrait: Portrait, motion: Tensor) -> Iterator[Tensor]:
        """Motion latents (N,D) of a clip -> its frames, in batches (n,S*3/2,S) uint8.

        They are on the device, which may still be at work on a batch when it is yielded. It is given batches of few
        different sizes, because cuDNN tries out its algorithms for each new shape: a clip's last batch on a GPU is
        extended to a multiple of a quarter of the full one.

        A batch that does not fit into memory is halved, for good. Raises torch.OutOfMemoryError for one frame alone.
        """
        latents = portrait.identity + motion
        start = 0
        while start < len(latents):
            batch = latents[start : start + self.frame_batch]
            try:
                yield self._decoded(portrait, batch)
            except torch.OutOfMemoryError:
                if self.frame_batch == 1 or self.mode == "compiled":  # whose shape is fixed
                    raise
                self.frame_batch //= 2
                torch.cuda.empty_cache()
                logger.warning("out of memory: frames are now decoded in batches of %d", self.frame_batch)
                continue
            start += len(batch)

    def _decoded(self, portrait: Portrait, batch: Tensor) -> Tensor:
        missing = 0
        if self.mode == "compiled":
            missing = self.frame_batch - len(batch)
        elif self.device.type == "cuda":
            missing = -len(batch) % max(1, self.frame_batch // 4)
        full = torch.cat([batch, batch[-1:].expand(missing, -1)]) if missing else batch
        return self._decode(full, portrait.features)[: len(batch)]

    def window_field(self, branches: list[Branch], known: WindowConditions) -> Field:
        """The `WindowField` of this mode; the fast ones compute here what does not change between evaluations.

        The variant with cross-attention has the plain one alone.
        """
        if self.mode == "reference" or self.model.config.conditioning != "adaln":
            return self.model.window_field(branches, known)
        kept = kept_conditions(branches)
        if kept not in self._fields:
            self._fields[kept] = self._new_field(kept, len(known.speech))
        field, evaluate = self._fields[kept]
        conditions = field.conditions(known)
        weight = torch.stack([branch.weight for branch in branches], dim=1)[:, :, None, None]  # (B,branches,1,1)

        def guided(x: Tensor, t: Tensor) -> Tensor:
            return (weight * evaluate(x, t, conditions, known.previous_motion)).sum(1)

        return guided

    def _new_field(self, kept: tuple[Kept, ...], clips: int) -> tuple[FastField, Callable[..., Tensor]]:
        field = FastField(self.model.transformer, kept).eval()
        if self.mode != "compiled":
            return field, field
        config = self.model.config

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(clips, *shape, device=self.device)

        rows = int(field.index.max()) + 1  # distinct conditions
        inputs = (
            zeros(config.window, config.latent_dim),
            zeros(),
            zeros(rows, config.hidden_dim),
            zeros(config.previous, config.latent_dim),
        )
        return field, self._compiled(field, inputs)
