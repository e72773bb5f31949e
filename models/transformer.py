"""Flow matching transformer (FMT): the vector field over one window of motion latents.

Tokens are P previous and L current frames. Every frame has its own condition, which shifts, scales and gates the
blocks (frame-wise AdaLN), and attends to its close neighbours only.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import EMOTIONS, FloatConfig


def sinusoidal_positions(tokens: int, dim: int) -> Tensor:
    """Fixed positions (1,tokens,dim): sin on even, cos on odd channels (Vaswani et al., section 3.5)."""
    position = torch.arange(tokens, dtype=torch.float32, device="cpu")[:, None]
    frequency = torch.exp(torch.arange(0, dim, 2, device="cpu") * (-math.log(10_000.0) / dim))
    table = torch.zeros(1, tokens, dim, device="cpu")
    table[0, :, 0::2] = torch.sin(position * frequency)
    table[0, :, 1::2] = torch.cos(position * frequency)
    return table


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """LayerNorm without affine (eps 1e-6), then this frame's own shift and scale; all (B,T,H)."""
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
        b, t, h = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, h // self.heads).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)  # (B,heads,T,H/heads)
        return self.out(x.transpose(1, 2).reshape(b, t, h))


class Block(nn.Module):
    """DiT block with frame-wise AdaLN and gating (Peebles & Xie, arXiv 2212.09748)."""

    def __init__(self, config: FloatConfig) -> None:
        super().__init__()
        hidden = config.hidden_dim
        self.attention = Attention(hidden, config.heads)
        self.mlp = nn.Sequential(
            nn.Linear(hidden, config.mlp_ratio * hidden),
            nn.GELU(approximate="tanh"),
            nn.Linear(config.mlp_ratio * hidden, hidden),
        )
        self.modulation = nn.Linear(hidden, 6 * hidden)

    def forward(self, x: Tensor, condition: Tensor, allowed: Tensor) -> Tensor:
        """x and SiLU-activated condition (B,T,H) -> (B,T,H)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(condition).chunk(6, dim=-1)
        x = x + gate1 * self.attention(modulate(x, shift1, scale1), allowed)
        return x + gate2 * self.mlp(modulate(x, shift2, scale2))


@dataclass(frozen=True)
class WindowConditions:
    """What the vector field of one window of B clips is conditioned on."""

    speech: Tensor
    """w_a (B,L,D)."""
    emotion: Tensor
    """w_e (B,7)."""
    reference_motion: Tensor
    """r_s (B,D)."""
    previous_motion: Tensor
    """Last P motion latents of the window before (B,P,D)."""
    previous_speech: Tensor
    """Their speech features (B,P,D)."""


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
        self.embed_condition = nn.Linear(2 * latent + len(EMOTIONS), hidden)
        self.embed_time = TimeEmbedding(hidden)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.blocks))
        self.final_modulation = nn.Linear(hidden, 2 * hidden)
        self.to_velocity = nn.Linear(hidden, latent)
        # Constants: not in checkpoints, and real even where the module is built on the meta device.
        self.register_buffer("positions", sinusoidal_positions(tokens, hidden), persistent=False)
        index = torch.arange(tokens, device="cpu")
        allowed = (index[:, None] - index).abs() <= config.attention_radius
        self.register_buffer("allowed", allowed, persistent=False)

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
    ) -> Tensor:
        """Velocity of every token, the P previous ones first.

        Args:
            x: motion latents of the window at time t (B,L,D).
            t: flow time in [0,1] (B,); 0 is noise, 1 is motion.
            speech: w_a (B,L,D); emotion: w_e (B,7); reference_motion: r_s (B,D).
            previous_motion: last P motion latents of the window before (B,P,D), zeros in the first window;
            previous_speech: their speech features (B,P,D).

        Returns: (B,P+L,D).
        """
        tokens = torch.cat([previous_motion, x], dim=1)
        length = tokens.shape[1]
        if length != self.positions.shape[1]:
            raise ValueError(f"expected {self.positions.shape[1]} tokens (previous + window), got {length}")
        speech = torch.cat([previous_speech, speech], dim=1)
        reference = reference_motion[:, None].expand(-1, length, -1)
        feeling = emotion[:, None].expand(-1, length, -1)
        condition = self.embed_condition(torch.cat([reference, speech, feeling], dim=-1))
        condition = F.silu(condition + self.embed_time(t)[:, None])  # (B,T,H); every use of it starts so

        h = self.embed_motion(tokens) + self.positions
        for block in self.blocks:
            h = block(h, condition, self.allowed)
        shift, scale = self.final_modulation(condition).chunk(2, dim=-1)
        return self.to_velocity(modulate(h, shift, scale))
