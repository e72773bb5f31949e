"""`FastDecoder` in integers, with the passes between its convolutions in C++ (`models.fast.native`).

What depends on the portrait alone is computed once for it: its maps as tables in bfloat16, and their colours, because a
mixture of colours is the colour of the mixture.
"""

import weakref

import torch
import torch.nn.functional as F
from torch import Tensor

from models.autoencoder import Decoder
from models.fast.decoder import FastDecoder, _Int8Styled, _Stage, _Styled
from models.fast.native import blur_activate, finish, quantise
from models.int8 import Int8Conv
from models.layers import leaky


class NativeDecoder(FastDecoder):
    """Latents of frames and the features of their single portrait -> frames, on a CPU with AVX-512."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__(decoder, torch.bfloat16, int8=True)
        for stage in self._all():
            for part in stage.up.modules():
                if isinstance(part, Int8Conv):
                    part.expect_rim()
        self._known: tuple[weakref.ref[Tensor], list[tuple[Tensor, Tensor]]] | None = None
        self._biases = [styled.bias.float() for stage in self._all() for styled in (stage.up, stage.refine)]
        self._lines = [((stage.identity[0, :, 0] + 1) * len(stage.identity) - 1) / 2 for stage in self._all()]

    def _all(self) -> list[_Stage]:
        return [stage for stage in self.stages if isinstance(stage, _Stage)]

    def _tables(self, features: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """The map of a portrait (n*n,C) bfloat16 and its colours (n*n,4) for each stage; those of the last are kept."""
        if self._known is None or self._known[0]() is not features[0]:
            tables = []
            for stage, feature in zip(self._all(), features, strict=True):
                rows = feature.permute(0, 2, 3, 1).flatten(0, 2).float()
                colours = F.pad(rows @ stage.colour_weight.flatten(1).T, (0, 1))
                tables.append((rows.to(torch.bfloat16).contiguous(), colours))
            self._known = weakref.ref(features[0]), tables
        return self._known[1]

    def forward(self, latent: Tensor, features: list[Tensor]) -> Tensor:
        """As that of `FastDecoder`."""
        gains = [g.contiguous() for g in F.linear(latent, self.style_weight, self.style_bias).split(self.widths, 1)]
        tables, last = self._tables(features), len(self.stages) - 1
        start = _modulated(self.constant.float(), gains[0])
        (y,), factor = _convolved(self.first, quantise(*start), gains[0])
        y = y.float().permute(0, 3, 1, 2) * factor[:, :, None, None]
        x: tuple[Tensor, Tensor] | None = _modulated(leaky(y, self.first.bias.float()), gains[1])
        planes = None
        for number, stage in enumerate(self._all()):
            up_gain, refine_gain, flow_gain = gains[3 * number + 1 : 3 * number + 4]
            assert x is not None
            integers = quantise(*x, rim=True)
            x = None  # Maps that are no longer needed would double the peak of memory.
            parts, factor = _convolved(stage.up, integers, up_gain)
            x = blur_activate(parts, factor, self._biases[2 * number], refine_gain)
            del parts
            integers = quantise(*x)
            x = None
            (y,), factor = _convolved(stage.refine, integers, refine_gain)
            del integers
            head = stage.flow_weight.flatten(1) * flow_gain[:, None]
            x, planes = finish(
                y,
                factor,
                self._biases[2 * number + 1],
                (head, stage.flow_bias),
                planes,
                tables[number],
                (stage.colour_bias, stage.base),
                self._lines[number],
                None if number == last else gains[3 * number + 4],
            )
            del y
        assert planes is not None
        return planes[1]


def _modulated(x: Tensor, gain: Tensor) -> tuple[Tensor, Tensor]:
    """Small maps (N or 1,C,H,W) times a gain (N,C): (N,H,W,C) bfloat16, and their largest absolute values (N)."""
    x = (x.permute(0, 2, 3, 1) * gain[:, None, None]).to(torch.bfloat16).contiguous()
    return x, x.float().abs().amax((1, 2, 3))


def _convolved(layer: _Styled, integers: tuple[Tensor, Tensor], gain: Tensor) -> tuple[list[Tensor], Tensor]:
    """Integers (N,h,w,I) and units (N,1) -> results (N,..,O) in these units, and the factor (N,O)."""
    assert isinstance(layer, _Int8Styled)
    whole, unit = integers
    found = [part(whole.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) for part in layer.parts]
    return found, torch.rsqrt(gain.square() @ layer.power + 1e-8) * unit
