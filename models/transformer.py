"""Flow matching transformer (FMT): the vector field over one window of motion latents.

Tokens are P previous and L current frames. Every frame has its own condition, which shifts, scales and gates the blocks
(frame-wise AdaLN), and attends only to its close neighbours. The paper also tries conditions that enter by
cross-attention, and head poses as a further condition. Both are implemented here and selected by `FloatConfig`.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import EMOTIONS, POSE_DIM, FloatConfig


def sinusoidal_positions(tokens: int, dim: int) -> Tensor:
    """Fixed positions (1,tokens,dim): sin on even, cos on odd channels (Vaswani et al., section 3.5)."""
    position = torch.arange(tokens, dtype=torch.float32, device="cpu")[:, None]
    frequency = torch.exp(torch.arange(0, dim, 2, device="cpu") * (-math.log(10_000.0) / dim))
    table = torch.zeros(1, tokens, dim, device="cpu")
    table[0, :, 0::2] = torch.sin(position * frequency)
    table[0, :, 1::2] = torch.cos(position * frequency)
    return table


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm without affine parameters (eps 1e-6), then this frame's own shift and scale; all (B,T,H)."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift


class TimeEmbedding(nn.Module):
    """Flow time t in [0,1] -> (B,H): an MLP on [cos, sin](t * 10000^(-i/128)), i < 128."""

    def __init__(self, hidden: int, frequencies: int = 128) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.mlp = nn.Sequential(nn.Linear(2 * frequencies, hidden), nn.SiLU(), nn.Linear(hidden, hidden))

    def forward(self, t: Tensor) -> Tensor:
        """(B,) -> (B,H)."""
        steps = torch.arange(self.frequencies, device=t.device, dtype=torch.float32) / self.frequencies
        angle = t.float()[:, None] * torch.exp(-math.log(10_000.0) * steps)
        return self.mlp(torch.cat([angle.cos(), angle.sin()], dim=-1).to(t.dtype))


class Attention(nn.Module):
    """Multi-head self-attention within |i - j| <= radius."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.out = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor, allowed: Tensor) -> Tensor:
        """x (B,T,H), allowed (T,T) bool -> (B,T,H)."""
        return self.out(_attend(self.qkv(x).chunk(3, dim=-1), self.heads, allowed))


class CrossAttention(nn.Module):
    """Multi-head attention from the motion tokens to the conditions of the same and of close frames."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(hidden, hidden)
        self.key_value = nn.Linear(hidden, 2 * hidden)
        self.out = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor, condition: Tensor, allowed: Tensor) -> Tensor:
        """x and condition (B,T,H), allowed (T,T) bool -> (B,T,H)."""
        key_value = self.key_value(condition).chunk(2, dim=-1)
        return self.out(_attend((self.query(x), *key_value), self.heads, allowed))


def _attend(query_key_value: tuple[Tensor, ...], heads: int, allowed: Tensor) -> Tensor:
    """Three (B,T,H) -> (B,T,H): scaled dot products of each head, masked."""
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in query_key_value)  # (B,heads,T,H/heads)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=allowed).transpose(1, 2).flatten(2)


def _mlp(config: FloatConfig) -> nn.Sequential:
    hidden, wide = config.hidden_dim, config.mlp_ratio * config.hidden_dim
    return nn.Sequential(nn.Linear(hidden, wide), nn.GELU(approximate="tanh"), nn.Linear(wide, hidden))


class Block(nn.Module):
    """DiT block with frame-wise AdaLN and gating (Peebles & Xie, arXiv 2212.09748)."""

    def __init__(self, config: FloatConfig) -> None:
        super().__init__()
        hidden = config.hidden_dim
        self.attention = Attention(hidden, config.heads)
        self.mlp = _mlp(config)
        self.modulation = nn.Linear(hidden, 6 * hidden)

    def forward(self, x: Tensor, condition: Tensor, allowed: Tensor) -> Tensor:
        """x and SiLU-activated condition (B,T,H) -> (B,T,H)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition).chunk(6, dim=-1)
        x = x + gate1 * self.attention(modulate(x, shift1, scale1), allowed)
        return x + gate2 * self.mlp(modulate(x, shift2, scale2))


class CrossBlock(nn.Module):
    """The paper's ablation: the condition enters by cross-attention, and does not shift, scale or gate anything."""

    def __init__(self, config: FloatConfig) -> None:
        super().__init__()
        hidden = config.hidden_dim
        self.attention = Attention(hidden, config.heads)
        self.cross = CrossAttention(hidden, config.heads)
        self.mlp = _mlp(config)
        self.norms = nn.ModuleList(nn.LayerNorm(hidden, eps=1e-6) for _ in range(3))

    def forward(self, x: Tensor, condition: Tensor, allowed: Tensor) -> Tensor:
        """x and SiLU-activated condition (B,T,H) -> (B,T,H)."""
        x = x + self.attention(self.norms[0](x), allowed)
        x = x + self.cross(self.norms[1](x), condition, allowed)
        return x + self.mlp(self.norms[2](x))


@dataclass(frozen=True)
class WindowConditions:
    """The conditions of the vector field for one window of B clips."""

    speech: Tensor
    """w_a (B,L,D)."""
    emotion: Tensor
    """w_e (B,7), or of each frame (B,P+L,7), the P previous ones first."""
    reference_motion: Tensor
    """r_s (B,D)."""
    previous_motion: Tensor
    """The last P motion latents of the previous window (B,P,D)."""
    previous_speech: Tensor
    """Their speech features (B,P,D)."""
    pose: Tensor | None = None
    """Head poses (B,L,6) for a model with that condition."""
    previous_pose: Tensor | None = None
    """Those of the last P frames before (B,P,6), zeros in the first window."""


class MotionTransformer(nn.Module):
    """v(x, t | speech, emotion, reference motion, previous window)."""

    positions: Tensor
    allowed: Tensor

    def __init__(self, config: FloatConfig) -> None:
        super().__init__()
        latent, hidden = config.latent_dim, config.hidden_dim
        self.config = config
        tokens = config.previous + config.window
        self.embed_motion = nn.Linear(latent, hidden)
        emotions = 0 if config.emotion == "none" else len(EMOTIONS)
        poses = 0 if config.pose == "none" else POSE_DIM
        self.embed_pose = nn.Sequential(nn.Linear(poses, poses), nn.LayerNorm(poses)) if poses else None
        self.embed_condition = nn.Linear(2 * latent + emotions + poses, hidden)
        self.embed_time = TimeEmbedding(hidden)
        adaln = config.conditioning == "adaln"
        self.blocks = nn.ModuleList(Block(config) if adaln else CrossBlock(config) for _ in range(config.blocks))
        self.final_modulation = nn.Linear(hidden, 2 * hidden) if adaln else None
        self.final_norm = None if adaln else nn.LayerNorm(hidden, eps=1e-6)
        self.to_velocity = nn.Linear(hidden, latent)
        # Constants: not in checkpoints, and real even if the module is built on the meta device.
        self.register_buffer("positions", sinusoidal_positions(tokens, hidden), persistent=False)
        index = torch.arange(tokens, device="cpu")
        allowed = (index[:, None] - index).abs() <= config.attention_radius
        self.register_buffer("allowed", allowed, persistent=False)

    def start_at_zero(self) -> None:
        """Initial values for training: each block passes its input on, and the prediction is 0 (adaLN-Zero of DiT).

        This is not done when the model is built, because tests need random models to be random.
        """
        last = [self.to_velocity]
        for block in self.blocks:
            if isinstance(block, Block):
                last.append(block.modulation)
            elif isinstance(block, CrossBlock):
                last += [block.attention.out, block.cross.out]
        last += [] if self.final_modulation is None else [self.final_modulation]
        for layer in last:
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def condition(self, reference_motion: Tensor, speech: Tensor, emotion: Tensor, pose: Tensor | None) -> Tensor:
        """Each frame's condition without the time: r_s (B,D), w_a (B,T,D), w_e (B,7) or (B,T,7), poses (B,T,6) ->
        (B,T,H).
        """
        frames = speech.shape[1]
        parts = [reference_motion[:, None].expand(-1, frames, -1), speech]
        if self.config.emotion != "none":
            parts.append(emotion if emotion.dim() == 3 else emotion[:, None].expand(-1, frames, -1))
        if self.embed_pose is not None:
            if pose is None:
                raise ValueError("this model is conditioned on head poses, but none were given")
            parts.append(self.embed_pose(pose))
        elif pose is not None:
            raise ValueError("head poses were given to a model without a head pose condition")
        return self.embed_condition(torch.cat(parts, dim=-1))

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        *,
        speech: Tensor,
        emotion: Tensor,
        reference_motion: Tensor,
        previous_motion: Tensor,
        previous_speech: Tensor,
        pose: Tensor | None = None,
        previous_pose: Tensor | None = None,
    ) -> Tensor:
        """Velocity (or noise, or clean motion, by `config.objective`) of every token, the P previous ones first.

        Args:
            x: motion latents of the window at time t (B,L,D).
            t: (B,), flow time in [0,1], 0 is noise, 1 is motion; for a diffusion model the number of the step.
            speech: w_a (B,L,D); reference_motion: r_s (B,D).
            emotion: w_e (B,7), or of each token (B,P+L,7); unused without that condition.
            previous_motion: last P motion latents of the window before (B,P,D), zeros in the first window;
            previous_speech: their speech features (B,P,D).
            pose, previous_pose: (B,L,6) and (B,P,6) of a model with that condition.

        Returns: (B,P+L,D).
        """
        tokens = torch.cat([previous_motion, x], dim=1)
        length = tokens.shape[1]
        if length != self.positions.shape[1]:
            raise ValueError(f"expected {self.positions.shape[1]} tokens (previous + window), got {length}")
        poses = None if pose is None or previous_pose is None else torch.cat([previous_pose, pose], dim=1)
        condition = self.condition(reference_motion, torch.cat([previous_speech, speech], dim=1), emotion, poses)
        condition = F.silu(
            condition + self.embed_time(t)[:, None]
        )  # (B,T,H); every use of the condition starts with this

        h = self.embed_motion(tokens) + self.positions
        for block in self.blocks:
            h = block(h, condition, self.allowed)
        if self.final_modulation is None:
            assert self.final_norm is not None
            return self.to_velocity(self.final_norm(h))
        shift, scale = self.final_modulation(condition).chunk(2, dim=-1)
        return self.to_velocity(modulate(h, shift, scale))
