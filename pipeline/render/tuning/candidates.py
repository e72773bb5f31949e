"""The candidates, from safe to risky. Each step starts from the best engine so far, and changes one thing.

Only what a device can gain from is tried. On a CPU that is types with instructions of their own, and compiling:
channels last and batches of 4 were measured to be best there, 8 with the decoder in C++, and nothing waits for launches
(models/README.md).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

from models.int8 import has_int8
from pipeline.render.speech_precision import has_bfloat16
from pipeline.render.variants import PRECISIONS, Choice, Variant

LEAST_SECONDS = 30.0
"""Time that a candidate has in any case, however little is left."""
COMPILE_SECONDS = 150.0
"""The same for what is compiled for a CPU: a minute or two at full size, which with less time would be lost each time.
What is compiled is kept, so later workers and jobs need not wait for it."""


@dataclass(frozen=True)
class Step:
    """Candidates that differ from the best engine so far in one thing."""

    part: str
    """`decoder` or `field`."""
    risky: bool
    """Whether it may hang or break the device, and so is tried in another process even on a CPU."""
    candidates: Callable[[Choice], list[Choice]]
    least: float = LEAST_SECONDS
    """Seconds that each of them has in any case."""
    first_only: bool = False
    """Whether the step ends with the first one that is better than the best so far: the others stand in for it."""


@dataclass(frozen=True)
class Ground:
    """What may be tried."""

    gpu: bool
    precisions: tuple[str, ...]
    """Beyond float32."""
    batches: bool
    """Whether the number of frames that are decoded together is free."""
    compilers: tuple[str, ...]
    """Modes that compile."""
    fast_field: bool
    """Whether there is a fast vector field for this model."""
    graphs: bool
    """Whether the solver's loop can be a CUDA graph."""
    native: bool = False
    """Whether there is a decoder in C++ for this CPU."""


def useful_precisions(device: torch.device, policy: str) -> tuple[str, ...]:
    """Precisions that `render.precision` allows and the device has instructions for."""
    if policy == "float32":
        return ()
    if device.type == "cuda":
        return tuple(name for name in PRECISIONS[1:] if name != "int8")
    if not has_bfloat16("cpu"):
        return ()
    return ("bfloat16", "int8") if has_int8() else ("bfloat16",)


def steps(ground: Ground) -> list[Step]:
    """All steps, in their order."""

    def decoders(*changes: dict[str, Any]) -> Step:
        return Step("decoder", False, lambda best: [replace(best, decoder=replace(best.decoder, **c)) for c in changes])

    def fields(*changes: dict[str, Any]) -> Step:
        return Step("field", False, lambda best: [replace(best, field=replace(best.field, **c)) for c in changes])

    def compiled(part: str) -> Step:
        """The best precision compiled; on a CPU the most reduced one, and the next one only if that is no gain.

        There the decoder in C++ comes first: it is ready in two seconds.
        """

        def choices(best: Choice) -> list[Choice]:
            now = best.decoder if part == "decoder" else best.field
            precisions = [] if ground.gpu else [name for name in reversed(PRECISIONS) if name in ground.precisions]
            precisions += [now.precision] if now.precision not in precisions else []
            variants = [replace(now, mode=mode, precision=name) for name in precisions for mode in ground.compilers]
            if part == "decoder" and ground.native:
                variants.insert(0, replace(now, mode="native", precision="int8"))
            return [replace(best, decoder=one) if part == "decoder" else replace(best, field=one) for one in variants]

        least = LEAST_SECONDS if ground.gpu else COMPILE_SECONDS
        return Step(part, True, choices, least, first_only=not ground.gpu)

    reduced: list[dict[str, Any]] = [{"precision": precision} for precision in ground.precisions]
    found = [decoders(*reduced)]
    if ground.fast_field:
        found.append(fields(*reduced))
    if ground.gpu:
        found.append(decoders({"layout": "contiguous"}))
        if ground.batches:
            sizes = (0.5, 2, 4)
            found.append(Step("decoder", False, lambda best: [_batch(best, factor) for factor in sizes]))
    found.append(compiled("decoder"))
    if ground.native and ground.batches:
        found.append(Step("decoder", False, lambda best: [_batch(best, 2)] if best.decoder.mode == "native" else []))
    if ground.fast_field:
        found.append(compiled("field"))
        if ground.graphs:
            found.append(Step("field", True, lambda best: [replace(best, field=replace(best.field, graph=True))]))
    return found


def _batch(best: Choice, factor: float) -> Choice:
    return replace(best, frame_batch=max(1, int(best.frame_batch * factor)))


def eager(frame_batch: int) -> Choice:
    """The fast modules in float32: where every search starts."""
    return Choice(Variant("eager"), Variant("eager"), frame_batch)


def plain(frame_batch: int) -> Choice:
    """The plain modules in float32, with which the others are compared: what is left if all else is refused."""
    return Choice(Variant("reference"), Variant("reference"), frame_batch)
