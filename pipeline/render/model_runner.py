"""The model on its device. The decoder and the vector field are each computed in one of several ways (`variants`)."""

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from models import FLOAT, Portrait
from models.fast.compiled import compiled
from models.fast.cuda_graph import Recorded
from models.fast.decoder import FastDecoder
from models.fast.native_decoder import NativeDecoder
from models.fast.private_cache import keep_inductor_private
from models.fast.vector_field import FastField, Kept, kept_conditions
from models.flow import Branch, Field
from models.pixels import to_tensor
from models.sampling import choose_sampler, sample
from models.transformer import WindowConditions
from pipeline.media.pixel_layout import YUV420P, PixelLayout
from pipeline.render.planes_decoder import YuvDecoder
from pipeline.render.variants import Choice, Variant, use_precision
from pipeline.storage.model_cache import cache_explained

logger = logging.getLogger(__name__)

LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


class _FieldOfBranches:
    """The fast vector field of some branches: eager, and as its variant wants it for one number of clips."""

    def __init__(self, eager: FastField, clips: int, evaluate: Callable[..., Tensor]) -> None:
        self.eager, self.clips, self.evaluate = eager, clips, evaluate


class ModelRunner:
    """Portraits, motion and frames of one model. Only this class knows how they are computed. Not thread-safe."""

    def __init__(
        self,
        model: FLOAT,
        *,
        mode: str = "eager",
        frame_batch: int = 4,
        choice: Choice | None = None,
        portraits: int = 8,
        weights: str = "",
        cache: Path | None = None,
        layout: PixelLayout = YUV420P,
    ) -> None:
        """Without a `choice`, everything is computed in float32 by `mode`. `layout` is that of the frames.

        `weights` identifies the model, and `cache` is the folder of compiled packages. Only what is compiled needs
        them.
        """
        choice = choice or Choice(Variant(mode), Variant(mode), frame_batch)
        self.model, self.frame_batch = model, choice.frame_batch
        self.decoder, self.field, self.layout = choice.decoder, choice.field, layout
        self.device = model.autoencoder.decoder.constant.device
        with torch.no_grad():
            _ = model.autoencoder.directions.basis  # decomposed now, and not while a portrait waits
        self._known: OrderedDict[str, Portrait] = OrderedDict()
        self._capacity = portraits
        self._weights, self._cache = weights, cache
        self._fields: dict[tuple[Kept, ...], _FieldOfBranches] = {}
        self._graphs: dict[tuple[object, ...], Recorded] = {}
        self.short_of_memory = False
        """Whether it had to leave the batches or the variant that it was made with."""
        self._eager = self._eager_decoder()
        self._decode: Callable[..., Tensor] = self._eager
        if self.decoder.fixed_shape:
            config = model.config
            latent = torch.zeros(choice.frame_batch, config.latent_dim, device=self.device)
            features = [
                torch.zeros(1, c, n, n, device=self.device).contiguous(memory_format=LAYOUTS[self.decoder.layout])
                for c, n in zip(config.channels[1:], config.resolutions[1:], strict=True)
            ]
            self._decode = self._optimised(self._eager, self.decoder, (latent, features))

    @property
    def engine(self) -> str:
        """How it computes now, for the clip's row."""
        return self.engine_of(self.layout)

    def engine_of(self, layout: PixelLayout | None) -> str:
        """How it computes frames of this layout now, for the clip's row."""
        decoder = self.decoder if layout in (None, self.layout) else self._uncompiled
        now = str(Choice(decoder, self.field, self.frame_batch))
        return now + " (after the memory was short)" * self.short_of_memory

    @property
    def _uncompiled(self) -> Variant:
        return replace(self.decoder, mode="eager") if self.decoder.fixed_shape else self.decoder

    def _eager_decoder(self) -> YuvDecoder:
        source, mode = self.model.autoencoder.decoder, self.decoder.mode
        if mode in ("reference", "native"):
            return YuvDecoder(source if mode == "reference" else NativeDecoder(source), self.layout).eval()
        fast = YuvDecoder(FastDecoder(source, self.decoder.dtype, int8=self.decoder.int8), self.layout).eval()
        if self.decoder.layout != "channels_last":  # which its weights have
            fast.to(memory_format=LAYOUTS[self.decoder.layout])  # type: ignore[call-overload]
        return fast

    def _optimised(self, module: nn.Module, variant: Variant, inputs: tuple[object, ...]) -> Callable[..., Tensor]:
        """`module` as compiled by its variant for the shapes of `inputs`."""
        assert self._cache is not None
        use_precision(variant.precision)  # of which compilers make constants
        with cache_explained():
            if variant.mode == "compiled":
                return compiled(module, inputs, weights=self._weights, cache=self._cache)
            keep_inductor_private(self._cache)
        return torch.compile(module, dynamic=False)

    @torch.no_grad()
    def portrait(self, pixels: np.ndarray) -> Portrait:
        """(S,S,3) uint8 RGB -> its latents and features, in float32. The last few images are cached by content."""
        key = hashlib.sha256(pixels.tobytes()).hexdigest()
        if key not in self._known:
            use_precision("float32")
            portrait = self.model.encode_portrait(to_tensor(pixels, self.device))
            if self.decoder.mode != "reference":
                layout = LAYOUTS[self.decoder.layout]
                features = [f.contiguous(memory_format=layout) for f in portrait.features]
                portrait = Portrait(portrait.identity, portrait.coefficients, portrait.motion, features)
            self._known[key] = portrait
            if len(self._known) > self._capacity:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]

    def forget_portraits(self) -> None:
        """Clear the cache, so that the next portrait is encoded again."""
        self._known.clear()

    # --- Frames ------------------------------------------------------------------------------------------------

    def frames(self, portrait: Portrait, motion: Tensor) -> Iterator[np.ndarray]:
        """The frames of `decoded` on the host."""
        return (batch.cpu().numpy() for batch in self.decoded(portrait, motion))

    @torch.no_grad()
    def decoded(self, portrait: Portrait, motion: Tensor, layout: PixelLayout | None = None) -> Iterator[Tensor]:
        """Motion latents (N,D) of a clip -> its frames, in batches (n,rows,S) of a layout, or of the runner's own.

        They are on the device, which may still be at work on a batch when it is yielded. It is given batches of few
        different sizes, because cuDNN tries out its algorithms for each new shape: a clip's last batch on a GPU is
        extended to a multiple of a quarter of the full one.

        A batch that does not fit into memory is halved, for good; what is compiled for one size is then computed
        eagerly, in the same precision. Raises torch.OutOfMemoryError for one frame alone.
        """
        latents = portrait.identity + motion
        start = 0
        while start < len(latents):
            frames = self._decoded_if_it_fits(portrait, latents[start : start + self.frame_batch], layout)
            if frames is None:
                self._halve()
                continue
            yield frames
            start += len(frames)

    def _decoded_if_it_fits(self, portrait: Portrait, batch: Tensor, layout: PixelLayout | None) -> Tensor | None:
        """Frames of a batch, or None if the memory is too small for them.

        Only when this has returned are the error and, with its traceback, the failed activations gone.
        """
        try:
            return self._decoded(portrait, batch, layout)
        except torch.OutOfMemoryError:
            if self.frame_batch == 1:
                raise
        return None

    def _halve(self) -> None:
        self.frame_batch //= 2
        self.short_of_memory = True
        if self.decoder.fixed_shape:
            self.decoder = self._uncompiled
            self._decode = self._eager
        torch.cuda.empty_cache()
        logger.warning("out of memory: frames are now decoded in batches of %d (%s)", self.frame_batch, self.decoder)

    def _decoded(self, portrait: Portrait, batch: Tensor, layout: PixelLayout | None) -> Tensor:
        use_precision(self.decoder.precision)
        missing = 0
        if self.decoder.fixed_shape:
            missing = self.frame_batch - len(batch)
        elif self.device.type == "cuda":
            missing = -len(batch) % max(1, self.frame_batch // 4)
        full = torch.cat([batch, batch[-1:].expand(missing, -1)]) if missing else batch
        return self._decoder_of(layout)(full, portrait.features)[: len(batch)]

    def _decoder_of(self, layout: PixelLayout | None) -> Callable[..., Tensor]:
        """The decoder for a layout; for another one than the runner's own it is eager, and computes the same frames."""
        if layout is None or layout == self.layout:
            return self._decode
        return YuvDecoder(self._eager.decoder, layout)

    # --- Motion ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def sample(
        self,
        branches: list[Branch],
        known: WindowConditions,
        noise: Tensor,
        *,
        nfe: int,
        sampler: str = "auto",
        tolerance: float = 1e-3,
    ) -> Tensor:
        """Motion (B,L,D) of a window from noise (B,L,D); see `models.sampling.sample`.

        The whole loop of a solver with fixed steps is one CUDA graph where the field's variant says so. Weights by
        frame have a graph of their own. What is compiled knows no weights, so that one package serves both.
        """
        objective = self.model.config.objective
        sampler = choose_sampler(objective, sampler)

        def solved(field: Field, x: Tensor) -> Tensor:
            return sample(field, x, objective=objective, nfe=nfe, sampler=sampler, tolerance=tolerance)

        fast = self._fast_field(branches, known)
        if fast is None or not self.field.graph or sampler == "dopri5":  # which asks the device how far it has come
            return solved(self.window_field(branches, known), noise)

        def loop(x: Tensor, weight: Tensor, conditions: Tensor, previous: Tensor) -> Tensor:
            return solved(_guided(evaluate, fast.eager, weight, conditions, previous), x)

        evaluate = self._evaluate(fast, len(noise))
        inputs = (noise, _weights(branches), fast.eager.conditions(known), known.previous_motion)
        key = (kept_conditions(branches), inputs[1].shape, nfe, sampler)
        if key not in self._graphs:
            self._graphs[key] = Recorded(loop, inputs)
        return self._graphs[key](*inputs)

    def window_field(self, branches: list[Branch], known: WindowConditions) -> Field:
        """The `WindowField` of this variant; the fast ones compute here what does not change between evaluations.

        The model with cross-attention has the plain one alone.
        """
        fast = self._fast_field(branches, known)
        if fast is None:
            return self.model.window_field(branches, known)
        evaluate = self._evaluate(fast, len(known.speech))
        return _guided(evaluate, fast.eager, _weights(branches), fast.eager.conditions(known), known.previous_motion)

    def _evaluate(self, fast: _FieldOfBranches, clips: int) -> Callable[..., Tensor]:
        """The field for a batch of clips. Where memory is short, there are fewer than it was compiled for."""
        if clips == fast.clips or not self.field.fixed_shape:
            return fast.evaluate
        self.short_of_memory = True
        return fast.eager

    def _fast_field(self, branches: list[Branch], known: WindowConditions) -> _FieldOfBranches | None:
        """The fast field of these branches; None where there is only the plain one. Sets the precision's flags."""
        use_precision(self.field.precision)
        if self.field.mode == "reference" or self.model.config.conditioning != "adaln":
            return None
        kept = kept_conditions(branches)
        if kept not in self._fields:
            self._fields[kept] = self._new_field(kept, len(known.speech))
        return self._fields[kept]

    def _new_field(self, kept: tuple[Kept, ...], clips: int) -> _FieldOfBranches:
        field = FastField(self.model.transformer, kept, self.field.dtype, int8=self.field.int8).eval()
        if not self.field.fixed_shape:
            return _FieldOfBranches(field, clips, field)
        config = self.model.config

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(clips, *shape, device=self.device)

        rows = int(field.index.max()) + 1  # distinct conditions
        inputs = (
            zeros(config.window, config.latent_dim),
            field.time(zeros()),
            zeros(rows, config.hidden_dim),
            zeros(config.previous, config.latent_dim),
        )
        return _FieldOfBranches(field, clips, self._optimised(field, self.field, inputs))


def _weights(branches: list[Branch]) -> Tensor:
    """Weights of the branches for each clip (B,branches,1,1), or for each of its frames (B,branches,L,1)."""
    weight = torch.stack([branch.weight for branch in branches], dim=1)
    return weight.reshape(*weight.shape[:2], -1, 1)


def _guided(evaluate: Callable[..., Tensor], fast: FastField, weight: Tensor, *window: Tensor) -> Field:
    def guided(x: Tensor, t: Tensor) -> Tensor:
        return (weight * evaluate(x, fast.time(t), *window)).sum(1)

    return guided
