"""Phase 1: the auto-encoder learns to reconstruct a frame of a clip from another one, against discriminators."""

import numpy as np
import torch
from torch import Tensor, nn

from models import FLOAT
from models.learning.discriminator import Critics
from models.learning.frozen import FrozenEncoder
from models.learning.losses import component_masks, curve_loss
from models.learning.perceptual import GradientPyramid, Pyramid, load_vgg19
from models.learning.reconstruction import MOUTH, critic_loss, encode_pair, generator_loss, reconstruct, scale_motion
from models.pixels import to_images
from pipeline.media.contact_sheet import comparison_sheet
from pipeline.storage.uris import join
from pipeline.training.frames import gradient_energy, psnr
from pipeline.training.learner import Learner
from pipeline.training.samples import HELD_OUT, CurveScale, FrameBatch, FramePairs
from pipeline.training.settings import TrainSettings
from pipeline.training.stage import SHOWN, Sums, Validation, copy_of, count, means, micro_batches, training_and_held_out
from pipeline.training.world import World
from pipeline.training_data.shards import CLIPS

MEASURED = 512
"""Number of frames whose motion latents are measured."""


class AutoencoderStage:
    """Phase 1: the auto-encoder and its discriminators."""

    def __init__(self, model: FLOAT, settings: TrainSettings, world: World, vgg: str | None = None) -> None:
        """`vgg` is a local file with VGG-19's weights."""
        self._model, self._settings, self._world = model, settings, world
        self._size = model.config.image_size
        train, self._held_out = training_and_held_out(join(settings.data, CLIPS))
        reconstruction = settings.reconstruction
        scale = CurveScale(train) if reconstruction.knows_curves else None
        self.samples = FramePairs(train, self._size, settings.reading.cache_gigabytes, scale, reconstruction.across)
        self.pyramid: Pyramid | None = None
        if reconstruction.weights(0).need_pyramid:
            self.pyramid = load_vgg19(vgg).to(world.device) if vgg else GradientPyramid()
        model.requires_grad_(False)
        (model.autoencoder.decoder if reconstruction.decoder_only else model.autoencoder).requires_grad_(True)
        curves = len(scale.mean) if scale else 0
        self._curve_weights = torch.tensor(reconstruction.curve_weights or [1.0] * curves, device=world.device)
        frozen = FrozenEncoder(model.autoencoder) if reconstruction.decoder_only else None
        pair = _Reconstruction(model, curves, settings.optimiser.seed, frozen).to(world.device)
        peak = settings.learning_rate
        self.learners = {"autoencoder": Learner(pair, settings.optimiser, peak, world)}
        self._critics: Critics | None = None
        if reconstruction.uses_critics:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(settings.optimiser.seed)
                self._critics = Critics(self._size, reconstruction.critic_width).to(world.device)
            self.learners["critics"] = Learner(self._critics, settings.optimiser, peak, world)

    def update(self, batch: FrameBatch, step: int) -> Sums:
        """Update the auto-encoder first, and then the discriminators with the frames that it reconstructed."""
        sums: Sums = {}
        settings, world = self._settings.optimiser, self._world
        weights = self._settings.reconstruction.weights(step)
        learner, made = self.learners["autoencoder"], []
        critics = self._critics if weights.need_critics else None
        if critics is not None:
            critics.requires_grad_(False)
        for part, last in micro_batches(batch, settings.micro_batch, world.device):
            with learner.micro_batch(last):
                with world.autocast(settings.dtype):
                    frames, read = learner.run(part.source, part.driving)
                loss, terms = generator_loss(
                    frames, part.driving, part.boxes, weights=weights, pyramid=self.pyramid, critics=critics
                )
                if part.curves is not None:
                    for name, missed in self._missed(read, part.curves).items():
                        loss = loss + getattr(self._settings.reconstruction, name) * missed
                        terms[name] = missed.detach()
                learner.backward(loss, settings.batch)
            made.append(frames.detach())
            count(sums, terms | {"loss": loss.detach()})
        sums["gradient_norm"] = learner.step(step) * len(batch)
        if critics is not None:
            critics.requires_grad_(True)
            learner = self.learners["critics"]
            parts = micro_batches(batch, settings.micro_batch, world.device)
            for (part, last), frames in zip(parts, made, strict=True):
                with learner.micro_batch(last):
                    with world.autocast(settings.dtype):
                        loss, terms = critic_loss(part.driving, frames, part.boxes, learner.run)
                    learner.backward(loss, settings.batch)
                count(sums, terms)
            learner.step(step)
        return sums

    def _missed(self, read: Tensor, curves: Tensor) -> Sums:
        """Errors (B,) of what the head reads from both frames (B,2,K), and of how it says that they differ."""
        wanted = self._settings.reconstruction
        found: Sums = {}
        if wanted.curves:
            found["curves"] = curve_loss(read, curves, self._curve_weights)
        if wanted.curve_changes:
            read, curves = (values[:, 1] - values[:, 0] for values in (read, curves))
            found["curve_changes"] = curve_loss(read, curves, self._curve_weights)
        return found

    @torch.no_grad()
    def validate(self) -> Validation | None:
        """Measure the PSNR of the reconstruction and of the source frame itself, and the gradient energy of the
        reconstruction as a share of the truth's, over the whole frame and over the mouth.
        """
        if self._held_out is None:
            return None
        pairs = FramePairs(self._held_out, self._size)
        drawn = [
            pairs.sample(self._settings.optimiser.seed, HELD_OUT, place)
            for place in range(self._settings.watch.samples)
        ]
        figures: Sums = {}
        energy: Sums = {}
        rows: dict[str, list[np.ndarray]] = {"source": [], "driving": [], "reconstruction": []}
        with self.learners["autoencoder"].averaged():
            for part, _ in micro_batches(pairs.collate(drawn), 8, self._world.device):
                found = reconstruct(self._model.autoencoder, part.source, part.driving)
                mouth = component_masks(part.boxes, self._size)[:, MOUTH]
                count(
                    figures,
                    {
                        "l1": (found - part.driving).abs().flatten(1).mean(1),
                        "psnr": psnr(found, part.driving),
                        "psnr_of_the_source": psnr(part.source, part.driving),
                        "psnr_mouth": psnr(found, part.driving, mouth),
                        "psnr_mouth_of_the_source": psnr(part.source, part.driving, mouth),
                    },
                )
                for region, mask in (("", None), ("_mouth", mouth)):
                    for name, picture in (("made", found.clamp(-1, 1)), ("true", part.driving)):
                        count(energy, {f"{name}{region}": gradient_energy(picture, mask)})
                for name, pictures in zip(rows, (part.source, part.driving, found), strict=True):
                    rows[name] += list(to_images(pictures))[: SHOWN - len(rows[name])]
        found_means = means(figures, len(drawn))
        for region in ("", "_mouth"):
            found_means[f"gradient_energy{region}"] = float(energy[f"made{region}"] / energy[f"true{region}"])
        ours, copied = found_means["psnr"], found_means["psnr_of_the_source"]
        title = f"held-out speakers: {ours:.2f} dB; copying the source: {copied:.2f} dB"
        return Validation(found_means, comparison_sheet(rows, title))

    def finished(self) -> FLOAT:
        """The model with averaged weights."""
        with self.learners["autoencoder"].averaged():
            model = copy_of(self._model, {name: value.clone() for name, value in self._model.state_dict().items()})
        if self._settings.reconstruction.unit_motion:
            scale_motion(model.autoencoder, 1 / self._spread(model))
        return model

    @torch.no_grad()
    def _spread(self, model: FLOAT) -> float:
        """Standard deviation of motion latents over frames of the training data, over all their channels."""
        drawn = [self.samples.sample(self._settings.optimiser.seed, HELD_OUT, place) for place in range(MEASURED)]
        parts = micro_batches(self.samples.collate(drawn), 16, torch.device("cpu"))
        motion = torch.cat([model.autoencoder.encode(part.driving).motion for part, _ in parts])
        return float((motion - motion.mean(0)).square().mean().sqrt())


class _Reconstruction(nn.Module):
    """The auto-encoder's training pass as a module, which DDP needs, with a head that is discarded at the end."""

    def __init__(self, model: FLOAT, curves: int, seed: int, frozen: FrozenEncoder | None) -> None:
        """`frozen` computes the latents if the encoder is not trained."""
        super().__init__()
        self.autoencoder, self._frozen = model.autoencoder, frozen
        self.head: nn.Linear | None = None
        if curves:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.head = nn.Linear(model.config.directions, curves)

    def forward(self, source: Tensor, driving: Tensor) -> tuple[Tensor, Tensor | None]:
        """Frames (B,3,S,S), and what the head predicts (B,2,K) from the motion of the source and driving frames."""
        if self._frozen is not None:
            with torch.autocast(source.device.type, enabled=False):  # it is cheap, and its errors would not average out
                still, moving = self._frozen.encode(source), self._frozen.encode(driving, features=False)
        else:
            still, moving = encode_pair(self.autoencoder, source, driving)
        frames = self.autoencoder.decode(still, moving.motion)
        if self.head is None:
            return frames, None
        return frames, self.head(torch.stack([still.coefficients, moving.coefficients], dim=1))
