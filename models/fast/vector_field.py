"""The guided vector field, optimised for speed: the same values as `FLOAT.guided_velocity`, which stays the reference.

The differences and their reasons (measurements are in models/README.md):

- The projection of the conditions is computed once per window; only the time embedding changes between evaluations.
- Tokens with equal conditions share one row of the modulations, which are a third of all arithmetic: without speech the
  L tokens of a branch are one row (unless each frame has a head pose), and the P previous tokens are the same in
  branches that differ only in speech.
- Block k of n keeps only tokens that can still reach the current window: attention looks `radius` tokens around, and
  the velocity of the previous tokens is discarded.
- On a CPU a linear layer runs as a 1x1 convolution: oneDNN then packs its weights once, and reached 205 GFLOP/s where
  the BLAS behind `F.linear` reached 130 (two cores of an AMD EPYC with AVX-512).

With `dtype` bfloat16 or float16, the linear layers of the blocks and attention have that type. The tokens that pass
from block to block, their normalisation and the first and last layer stay float32, and so do inputs and results. With
`int8` the linear layers of the blocks and the modulations multiply integers (`models.int8`), and attention has the type
`dtype`.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.flow import Branch
from models.int8 import Int8Linear, Integers
from models.transformer import Block, MotionTransformer, WindowConditions, modulate

KEPT_TIMES = 64
"""Flow times whose modulations are kept; each takes 200 kB at full size."""

Kept = tuple[bool, bool, bool]
"""Which conditions a branch keeps: reference, audio, emotion."""


class _Linear(nn.Module):
    """Frozen linear layer (..., I) -> (..., O) in the type of its weights, whatever that of its input is."""

    def __init__(self, source: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        weight = source.weight.detach().to(dtype)
        self.as_picture = weight.device.type == "cpu" and dtype == torch.float32
        self.weight = nn.Parameter(weight[:, :, None, None] if self.as_picture else weight, requires_grad=False)
        self.bias = nn.Parameter(source.bias.detach().to(dtype), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """X W' + b."""
        x = x.to(self.weight.dtype)
        if not self.as_picture:
            return F.linear(x, self.weight, self.bias)
        # (rows,I) viewed as an image of `rows` x 1 pixels with I channels: with channels last, no data is moved.
        picture = x.reshape(1, -1, 1, x.shape[-1]).permute(0, 3, 1, 2)
        y = F.conv2d(picture, self.weight, self.bias).permute(0, 2, 3, 1)
        return y.reshape(*x.shape[:-1], -1)


class _Int8Modulation(nn.Module):
    """Frozen linear layer of conditions -> (S,R,O) float32, whose integers are what a condition adds to the time alone.

    The branches of the guidance differ by little, but by what counts: 1/127 of whole conditions is too coarse a step.
    """

    def __init__(self, source: nn.Linear) -> None:
        super().__init__()
        self.rest = Int8Linear(source, torch.float32, mix=True)
        self.rest.bias = torch.zeros_like(self.rest.bias)

    def forward(self, rest: Integers, of_time: Tensor) -> Tensor:
        """`rest` of S*R rows; `of_time` (S,1,O) is what the layer gives for the time alone, with its bias."""
        return of_time + self.rest.product(rest).unflatten(0, (len(of_time), -1))


class _Block(nn.Module):
    """Weights of a transformer block."""

    def __init__(self, source: Block, dtype: torch.dtype, *, int8: bool) -> None:
        super().__init__()
        linear: Callable[[nn.Linear, torch.dtype], nn.Module] = partial(Int8Linear, mix=True) if int8 else _Linear
        self.modulation = _Int8Modulation(source.modulation) if int8 else _Linear(source.modulation, dtype)
        self.qkv, self.out = linear(source.attention.qkv, dtype), linear(source.attention.out, dtype)
        widen, narrow = source.mlp[0], source.mlp[2]
        assert isinstance(widen, nn.Linear)
        assert isinstance(narrow, nn.Linear)
        self.widen = linear(widen, dtype)
        # Not mixed: with so many channels that takes longer, and its rounding counts least.
        self.narrow = (Int8Linear if int8 else _Linear)(narrow, dtype)


class FastField(nn.Module):
    """All branches of the guided field for one window of S clips; `kept` says which conditions each branch keeps.

    Only for frame-wise AdaLN: the variant with cross-attention has no rows of modulations to share.
    """

    index: Tensor
    allowed: Tensor
    positions: Tensor
    bias: Tensor

    def __init__(
        self,
        transformer: MotionTransformer,
        kept: Sequence[Kept],
        dtype: torch.dtype = torch.float32,
        *,
        int8: bool = False,
    ) -> None:
        """`dtype` is that of the linear layers and of attention: float32, bfloat16 or float16; with `int8`, some
        linear layers multiply integers instead.
        """
        super().__init__()
        config = transformer.config
        if config.conditioning != "adaln":
            raise ValueError(f"the fast vector field supports adaln, not {config.conditioning}")
        assert transformer.final_modulation is not None
        self.config = config
        # In a tuple, because its weights are not part of what is compiled.
        self._plain = (transformer,)
        self.embed_motion = _Linear(transformer.embed_motion, torch.float32)
        blocks = (block for block in transformer.blocks if isinstance(block, Block))
        self.blocks = nn.ModuleList(_Block(block, dtype, int8=int8) for block in blocks)
        final = transformer.final_modulation
        self.final_modulation = _Int8Modulation(final) if int8 else _Linear(final, dtype)
        self.int8 = int8
        self.widths = [6 * config.hidden_dim] * config.blocks + [2 * config.hidden_dim] if int8 else []
        """Results of the modulations."""
        self._times: dict[float, Tensor] = {}
        self.register_buffer("bias", transformer.embed_condition.bias.detach())
        self.to_velocity = _Linear(transformer.to_velocity, torch.float32)
        self.register_buffer("positions", transformer.positions)
        self.register_buffer("allowed", transformer.allowed)

        # Distinct rows of conditions, and the row that each token of each branch uses: (branches, P+L).
        self.rows: list[tuple[str, bool, bool]] = []
        previous: dict[tuple[bool, bool], int] = {}
        index, count = [], 0
        for reference, audio, emotion in kept:
            if (reference, emotion) not in previous:
                previous[reference, emotion] = count
                self.rows.append(("previous", reference, emotion))
                count += config.previous
            start = previous[reference, emotion]
            self.rows.append(("current" if audio else "silent", reference, emotion))
            rows = config.window if audio or config.pose != "none" else 1
            current = range(count, count + rows) if rows > 1 else [count] * config.window
            count += rows
            index.append([*range(start, start + config.previous), *current])
        device = transformer.positions.device
        self.register_buffer("index", torch.tensor(index, device=device))

    def conditions(self, known: WindowConditions) -> Tensor:
        """Projected conditions of the distinct rows (S,R,H), the same for all evaluations of a window."""
        silent = torch.zeros_like(known.speech if known.pose is not None else known.speech[:, :1])
        previous, current, quiet = (known.emotion,) * 3
        if known.emotion.dim() == 3:  # of each frame
            if any(kind == "silent" and emotion for kind, _, emotion in self.rows):
                raise ValueError("a branch without speech has one row of conditions, which no frame-wise emotion fits")
            previous, current = known.emotion.split((self.config.previous, self.config.window), dim=1)
            quiet = current[:, 0]
        sources = {
            "previous": (known.previous_speech, previous, known.previous_pose),
            "current": (known.speech, current, known.pose),
            "silent": (silent, quiet, known.pose),
        }
        parts = []
        for kind, reference, emotion in self.rows:
            speech, felt, pose = sources[kind]
            parts.append(self._plain[0].condition(known.reference_motion * reference, speech, felt * emotion, pose))
        return torch.cat(parts, dim=1)

    def time(self, t: Tensor) -> Tensor:
        """What depends on the flow time (S,) alone: its embedding (S,H), with `int8` also the modulations (S,H+O).

        Those are the same for all windows and clips, and a solver with fixed steps has few times, so they are kept.
        """
        if not self.int8:
            return self._plain[0].embed_time(t)
        return torch.stack([self._of_time(value) for value in t.tolist()])

    def _of_time(self, value: float) -> Tensor:
        if value not in self._times:
            if len(self._times) >= KEPT_TIMES:  # by a solver that chooses its own steps
                self._times.clear()
            plain = self._plain[0]
            embedded = plain.embed_time(torch.full((1,), value, device=self.bias.device))[0]
            condition = F.silu(embedded + self.bias)
            layers = (*(block.modulation for block in plain.blocks if isinstance(block, Block)), plain.final_modulation)
            self._times[value] = torch.cat([embedded, *(layer(condition) for layer in layers if layer is not None)])
        return self._times[value]

    def forward(self, x: Tensor, time: Tensor, conditions: Tensor, previous_motion: Tensor) -> Tensor:
        """x (S,L,D), `time()`, `conditions()`, previous_motion (S,P,D) -> velocity of each branch (S,K,L,D)."""
        config = self.config
        clips, branches = len(x), len(self.index)
        width, head = config.hidden_dim, config.hidden_dim // config.heads
        tokens = config.previous + config.window
        embedded, *of_time = time[:, None].split([width, *self.widths], dim=-1)
        condition = F.silu(conditions + embedded)
        final = self.final_modulation
        rest = None
        if isinstance(final, _Int8Modulation):
            rest = final.rest.integers(condition - F.silu(embedded + self.bias))

        def modulation(layer: nn.Module, number: int) -> Tensor:
            """Of the distinct rows (S,R,O) float32."""
            return layer(condition).float() if rest is None else layer(rest, of_time[number])

        h = self.embed_motion(torch.cat([previous_motion, x], dim=1)) + self.positions
        h = h[:, None].expand(-1, branches, -1, -1)  # (S,K,P+L,H): the branches differ only in their conditions
        first = 0  # first token that h still contains
        for number, block in enumerate(self.blocks):
            assert isinstance(block, _Block)
            keep = max(0, config.previous - config.attention_radius * (len(self.blocks) - 1 - number))
            cut, length = keep - first, tokens - first
            rows = modulation(block.modulation, number)[:, self.index[:, first:]]  # (S,K,length,6H)
            shift1, scale1, gate1, shift2, scale2, gate2 = rows.chunk(6, dim=-1)
            qkv = block.qkv(modulate(h, shift1, scale1)).view(clips * branches, length, 3, config.heads, head)
            q, k, v = qkv.permute(2, 0, 3, 1, 4)
            heard = F.scaled_dot_product_attention(q[:, :, cut:], k, v, attn_mask=self.allowed[keep:, first:])
            heard = heard.transpose(1, 2).reshape(clips, branches, length - cut, -1)
            h = h[:, :, cut:] + gate1[:, :, cut:] * block.out(heard)
            wide = F.gelu(block.widen(modulate(h, shift2[:, :, cut:], scale2[:, :, cut:])), approximate="tanh")
            h = h + gate2[:, :, cut:] * block.narrow(wide)
            first = keep
        shift, scale = modulation(final, len(self.blocks))[:, self.index[:, first:]].chunk(2, dim=-1)
        return self.to_velocity(modulate(h, shift, scale))[:, :, config.previous - first :]


def kept_conditions(branches: Sequence[Branch]) -> tuple[Kept, ...]:
    """What a `FastField` needs to know about the branches of the guided field."""
    return tuple((branch.reference, branch.audio, branch.emotion) for branch in branches)
