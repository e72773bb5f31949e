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
from models.layers import leaky


class NativeDecoder(FastDecoder):
    """Latents of frames and the features of their single portrait -> frames, on a CPU with AVX-512."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__(decoder, torch.bfloat16, int8=True)
        self._known: tuple[weakref.ref[Tensor], list[tuple[Tensor, Tensor]]] | None = None
        biases = [styled.bias.float() for stage in self._all() for styled in (stage.up, stage.refine)]
        self._biases = biases
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

    @staticmethod
    def _convolved(layer: _Styled, x: Tensor, peak: Tensor, gain: Tensor) -> tuple[list[Tensor], Tensor]:
        """Modulated map (N,h,w,I) and its peak -> results (N,..,O) in units of integers, and the factor (N,O)."""
        assert isinstance(layer, _Int8Styled)
        whole, unit = quantise(x, peak)
        found = [part(whole.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) for part in layer.parts]
        return found, torch.rsqrt(gain.square() @ layer.power + 1e-8) * unit

    def forward(self, latent: Tensor, features: list[Tensor]) -> Tensor:
        """As that of `FastDecoder`."""
        gains = [g.contiguous() for g in F.linear(latent, self.style_weight, self.style_bias).split(self.widths, 1)]
        tables, last = self._tables(features), len(self.stages) - 1
        x = self.constant.float().permute(0, 2, 3, 1) * gains[0][:, None, None]
        x = x.to(torch.bfloat16).contiguous()
        (y,), factor = self._convolved(self.first, x, x.abs().float().amax((1, 2, 3)), gains[0])
        x = leaky(y.float().permute(0, 3, 1, 2) * factor[:, :, None, None], self.first.bias.float())
        x = (x.permute(0, 2, 3, 1) * gains[1][:, None, None]).to(torch.bfloat16).contiguous()
        peak = x.abs().float().amax((1, 2, 3))
        planes = None
        for number, stage in enumerate(self._all()):
            up_gain, refine_gain, flow_gain = gains[3 * number + 1 : 3 * number + 4]
            parts, factor = self._convolved(stage.up, x, peak, up_gain)
            x, peak = blur_activate(parts, factor, self._biases[2 * number], refine_gain)
            (y,), factor = self._convolved(stage.refine, x, peak, refine_gain)
            head = stage.flow_weight.flatten(1) * flow_gain[:, None]
            x, peak, planes = finish(
                y,
                factor,
                self._biases[2 * number + 1],
                (head.contiguous(), stage.flow_bias),
                planes,
                tables[number],
                (stage.colour_bias, stage.base),
                self._lines[number],
                None if number == last else gains[3 * number + 4],
            )
        assert planes is not None
        return planes[1]
