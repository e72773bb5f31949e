"""The complete FLOAT model: portrait -> latents, speech -> condition, condition -> motion, motion -> frames.

Everything here is inference and runs without gradients; training uses the parts directly (`autoencoder`, `transformer`,
`speech_projection`). Paper: Ki, Min and Chae, "FLOAT: Generative Motion Latent Flow Matching for Audio-driven Talking
Portrait", ICCV 2025, arXiv 2412.01064.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.autoencoder import Autoencoder, Portrait
from models.config import FloatConfig
from models.flow import Branch, Field, guidance_branches
from models.released import translate
from models.sampling import sample
from models.speech import SpeechProjection
from models.transformer import MotionTransformer, WindowConditions

Scale = float | Tensor
"""A guidance scale: one number, or one per clip (B,). That of the emotion may also have one per frame (B,T)."""

WindowField = Callable[[list[Branch], WindowConditions], Field]
"""Creates the guided vector field of a window's L current frames: v(x (B,L,D), t (B,)) -> (B,L,D)."""


def window_noise(seed: int, window: int, frames: int, dim: int) -> Tensor:
    """Noise (frames, dim) of one window, which is a function of (seed, window) alone.

    It is drawn on the CPU, so that a clip does not depend on its batch, worker, device or order.
    """
    generator = np.random.Generator(np.random.PCG64([seed, window]))
    return torch.from_numpy(generator.standard_normal((frames, dim), dtype=np.float32))


class FLOAT(nn.Module):
    """Motion latent auto-encoder, flow matching transformer and projection of speech features."""

    def __init__(self, config: FloatConfig | None = None) -> None:
        super().__init__()
        self.config = config or FloatConfig()
        self.autoencoder = Autoencoder(self.config)
        self.transformer = MotionTransformer(self.config)
        self.speech_projection = SpeechProjection(self.config.content_dim, self.config.latent_dim)

    @classmethod
    def from_released(cls, state: Mapping[str, Tensor]) -> "FLOAT":
        """Build the full-size model from the authors' state dict (`float.pth`).

        Constants and wav2vec2 weights may be missing, and are ignored if they are present. Raises ValueError listing
        every name that is missing, unknown or of another shape.
        """
        with torch.device("meta"):  # initial values would be replaced at once
            model = cls(FloatConfig())
        model.load_state_dict(translate(state, model.state_dict(), model.config), assign=True)
        return model.eval()

    # --- Portrait and frames -----------------------------------------------------------------------------------

    @torch.no_grad()
    def encode_portrait(self, image: Tensor) -> Portrait:
        """Image (B,3,S,S) in [-1,1] -> identity (B,D), coefficients (B,M), motion (B,D), features (8 px to S)."""
        side = self.config.image_size
        if image.dim() != 4 or image.shape[1:] != (3, side, side):
            raise ValueError(f"image must be (B,3,{side},{side}), got {tuple(image.shape)}")
        return self.autoencoder.encode(image)

    @torch.no_grad()
    def decode(self, portrait: Portrait, motion: Tensor) -> Tensor:
        """Motion latents (N,D) of one portrait -> frames (N,3,S,S), nominally in [-1,1], not clamped."""
        return self.autoencoder.decode(portrait, motion)

    # --- Speech ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def project_speech(self, hidden: Tensor) -> Tensor:
        """Content features (B,T,content_dim) -> w_a (B,T,D)."""
        return self.speech_projection(hidden)

    # --- Motion ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def velocity(
        self,
        x: Tensor,
        t: Tensor | float,
        *,
        speech: Tensor,
        emotion: Tensor,
        reference_motion: Tensor,
        previous_motion: Tensor,
        previous_speech: Tensor,
        pose: Tensor | None = None,
        previous_pose: Tensor | None = None,
    ) -> Tensor:
        """One plain evaluation of the vector field; see `MotionTransformer.forward`. -> (B,P+L,D)."""
        return self.transformer(
            x,
            _per_clip(t, x),
            speech=speech,
            emotion=emotion,
            reference_motion=reference_motion,
            previous_motion=previous_motion,
            previous_speech=previous_speech,
            pose=pose,
            previous_pose=previous_pose,
        )

    @torch.no_grad()
    def guided_velocity(
        self,
        x: Tensor,
        t: Tensor | float,
        *,
        speech: Tensor,
        emotion: Tensor,
        reference_motion: Tensor,
        previous_motion: Tensor,
        previous_speech: Tensor,
        pose: Tensor | None = None,
        previous_pose: Tensor | None = None,
        audio_scale: Scale = 2.0,
        emotion_scale: Scale = 1.0,
        reference_scale: Scale = 1.0,
    ) -> Tensor:
        """Vector field under classifier-free guidance (`flow.guidance_branches`) -> (B,P+L,D).

        All branches that a scale requires run in one batch. A dropped condition is zero. The previous window and head
        poses stay in every branch. `emotion_scale` may be (B,L), of each current frame; the previous tokens, whose
        velocity only the tests look at, have that of the first one.
        """
        branches = self.branches(_scale(audio_scale, x), _scale(emotion_scale, x), _scale(reference_scale, x))
        known = WindowConditions(
            speech, emotion, reference_motion, previous_motion, previous_speech, pose, previous_pose
        )
        return self._combine(branches, x, _per_clip(t, x), known)

    def branches(self, audio_scale: Tensor, emotion_scale: Tensor, reference_scale: Tensor) -> list[Branch]:
        """`flow.guidance_branches` of this model; scales (B,), and that of the emotion also (B,L), of each frame.

        Without an emotion condition, its scale is ignored.
        """
        emotion_scale = audio_scale if self.config.emotion == "none" else emotion_scale
        if emotion_scale.dim() == 2:
            audio_scale, reference_scale = audio_scale[:, None], reference_scale[:, None]
        return guidance_branches(audio_scale, emotion_scale, reference_scale)

    def _combine(self, branches: list[Branch], x: Tensor, t: Tensor, known: WindowConditions) -> Tensor:
        count = len(branches)

        def keep(condition: Tensor, flags: list[bool]) -> Tensor:
            return torch.cat([condition if flag else torch.zeros_like(condition) for flag in flags])

        def repeat(value: Tensor) -> Tensor:
            return value.repeat(count, *[1] * (value.dim() - 1))

        v = self.transformer(
            repeat(x),
            repeat(t),
            speech=keep(known.speech, [b.audio for b in branches]),
            emotion=keep(known.emotion, [b.emotion for b in branches]),
            reference_motion=keep(known.reference_motion, [b.reference for b in branches]),
            previous_motion=repeat(known.previous_motion),
            previous_speech=repeat(known.previous_speech),
            pose=None if known.pose is None else repeat(known.pose),
            previous_pose=None if known.previous_pose is None else repeat(known.previous_pose),
        )
        weight = torch.stack([b.weight for b in branches])  # (branches,B) or (branches,B,L)
        if weight.dim() == 2:
            weight = weight[:, :, None]
        else:
            weight = torch.cat([weight[:, :, :1].expand(-1, -1, self.config.previous), weight], dim=2)
        return (weight[..., None] * v.unflatten(0, (count, -1))).sum(0)

    @torch.no_grad()
    def sample_motion(
        self,
        speech: Tensor,
        reference_motion: Tensor,
        emotion: Tensor,
        *,
        nfe: int = 10,
        audio_scale: Scale = 2.0,
        emotion_scale: Scale = 1.0,
        reference_scale: Scale = 1.0,
        solver: str = "auto",
        tolerance: float = 1e-3,
        pose: Tensor | None = None,
        noise: Tensor | None = None,
        seeds: Sequence[int] | None = None,
        window_field: WindowField | None = None,
    ) -> Tensor:
        """Motion latents of whole clips, window after window.

        Args:
            speech: w_a (B,T,D). A batch of clips of different lengths is padded at the end by repeating each
                clip's last frame; its own first frames are then what they are alone.
            reference_motion: r_s (B,D).
            emotion: w_e (B,7), or of each frame (B,T,7). `emotion_scale` may be (B,T) as well. A window knows the
                emotion of its previous frames as it knows their speech; before the first window it is that of the
                first frame. A window whose frames all have one emotion and scale is what it is with (B,7) and (B,).
            nfe: evaluations of the (guided) vector field per window; the released code's setting of 10 is 9 here.
            solver, tolerance: see `sampling.sample`.
            pose: (B,T,6), of a model with that condition.
            noise: (windows,B,L,D), or
            seeds: one per clip; noise is then `window_noise(seed, window)`. Exactly one of the two.
            window_field: makes the guided field of each window; none takes the plain one, `FLOAT.window_field`.

        Returns: (B,T,D).
        """
        clips, frames, _ = speech.shape
        length = self.config.window
        windows = -(-frames // length)
        if (noise is None) == (seeds is None):
            raise ValueError("give either noise or seeds")
        expected = (windows, clips, length, self.config.latent_dim)
        if noise is not None and noise.shape != expected:
            raise ValueError(f"noise must be {expected} (windows,B,L,D), got {tuple(noise.shape)}")
        if seeds is not None and len(seeds) != clips:
            raise ValueError(f"{len(seeds)} seeds for {clips} clips")

        rest = windows * length - frames
        padded = _pad_end(speech, rest)
        poses = None if pose is None else _pad_end(pose, rest).split(length, dim=1)
        scales = [_scale(scale, speech) for scale in (audio_scale, emotion_scale, reference_scale)]
        previous = self.config.previous
        # Frames of a window with those before; the clip's first and last frame stand for those that it does not have.
        reach = torch.arange(-previous, length, device=speech.device)
        motion = speech.new_zeros(clips, previous, self.config.latent_dim)
        context = torch.zeros_like(motion)
        turned = None if pose is None else pose.new_zeros(clips, previous, pose.shape[-1])
        make_field = window_field or self.window_field
        done = []
        for window, current in enumerate(padded.split(length, dim=1)):
            x0 = noise[window] if noise is not None else self._noise(seeds or [], window)
            posed = None if poses is None else poses[window]
            near = (reach + window * length).clamp(0, frames - 1)
            felt = emotion[:, near] if emotion.dim() == 3 else emotion
            scale = scales[1][:, near[previous:]] if scales[1].dim() == 2 else scales[1]
            branches = self.branches(scales[0], scale, scales[2])
            known = WindowConditions(current, felt, reference_motion, motion, context, posed, turned)
            x = sample(
                make_field(branches, known),
                x0.to(speech),
                objective=self.config.objective,
                nfe=nfe,
                sampler=solver,
                tolerance=tolerance,
            )
            done.append(x)
            motion, context = x[:, -previous:], current[:, -previous:]
            turned = None if posed is None else posed[:, -previous:]
        return torch.cat(done, dim=1)[:, :frames]

    def window_field(self, branches: list[Branch], known: WindowConditions) -> Field:
        """The plain `WindowField`."""

        def field(x: Tensor, t: Tensor) -> Tensor:
            return self._combine(branches, x, t, known)[:, self.config.previous :]

        return field

    def _noise(self, seeds: Sequence[int], window: int) -> Tensor:
        return torch.stack([window_noise(seed, window, self.config.window, self.config.latent_dim) for seed in seeds])


def _pad_end(values: Tensor, frames: int) -> Tensor:
    """(B,T,C) -> (B,T+frames,C), the last frame repeated."""
    return F.pad(values.transpose(1, 2), (0, frames), mode="replicate").transpose(1, 2)


def _scale(value: Scale, like: Tensor) -> Tensor:
    """A guidance scale (B,), or (B,T) where it has one per frame, on the device and in the type of `like`."""
    if isinstance(value, Tensor) and value.dim() == 2:
        return value.to(like)
    return _per_clip(value, like)


def _per_clip(value: Scale, like: Tensor) -> Tensor:
    """A number or one per clip -> (B,) on the device and in the type of `like`."""
    return torch.as_tensor(value, device=like.device, dtype=like.dtype).expand(len(like))
