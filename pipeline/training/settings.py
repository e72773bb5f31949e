"""Settings of a training job."""

from dataclasses import dataclass, field

from models.learning.objectives import Dropout, MotionWeights
from models.learning.reconstruction import ReconstructionWeights
from pipeline.common.options import SettingError, check_ranges, option

STAGES = ("autoencoder", "motion")


@dataclass
class OptimiserSettings:
    """Steps, batch and optimiser. The paper's: batch 8; Adam 2e-4 and 460,000 steps for the auto-encoder, Adam 1e-5 and
    2,000,000 steps for motion."""

    steps: int = option(0, "Optimiser steps in all, those of earlier runs of the same output included.", least=0)
    batch: int = option(8, "Samples of a step, all workers together: results do not depend on their number.", least=1)
    micro_batch: int = option(
        0, "Samples that a worker computes at a time, gradients added up; 0 takes its whole share.", least=0
    )
    learning_rate: float = option(0.0, "Of Adam; 0 takes the paper's: 2e-4 autoencoder, 1e-5 motion.", least=0)
    warmup: int = option(0, "Steps in which the learning rate rises from 0.", least=0)
    decay: float = option(
        0.0,
        "Share of the steps, at the end, in which the learning rate falls to 0 in a straight line.",
        least=0,
        most=1,
    )
    clip: float = option(1.0, "Gradients are scaled down to this norm; 0 leaves them.", least=0)
    ema: float = option(
        0.999, "Decay of the average of the weights that is delivered (EMA); 0 has none.", least=0, most=1
    )
    dtype: str = option(
        "auto",
        "What autocast computes with; weights, losses and optimiser stay float32. auto takes bfloat16 on GPUs that "
        "have it, else float32.",
        choices=("auto", "float32", "bfloat16"),
    )
    compile: bool = option(
        False,
        "Compile the step (torch.compile), which needs a C++ compiler on CPUs: a minute at the start. Try it: on two "
        "cores at 64 px it was no faster.",
    )
    seed: int = option(0, "Of initial values, samples, noise and what is dropped.", least=0, most=2**63 - 1)

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass
class DataSettings:
    """How samples are read."""

    threads: int = option(2, "Threads of a worker that read and decode ahead.", least=1, most=64)
    ahead: int = option(4, "Steps that are read ahead.", least=1, most=64)
    cache_gigabytes: float = option(
        0.0,
        "Memory of a worker for decoded frames: what fits is decoded once (stage autoencoder).",
        least=0,
    )

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass
class WatchSettings:
    """What a training run shows, and when it is saved."""

    log_every: int = option(50, "Steps between two lines of the log and points of the curves.", least=1)
    validate_every: int = option(1000, "Steps between two validations, with a contact sheet.", least=1)
    save_every: int = option(1000, "Steps between two checkpoints; one more at the end.", least=1)
    keep: int = option(3, "Checkpoints that are kept.", least=1)
    samples: int = option(64, "Held-out samples that a validation measures.", least=1)

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass
class WorkerSettings:
    """Processes that train."""

    number: int = option(0, "Workers; 0 takes one per GPU of the cluster, without GPUs one.", least=0)
    least: int = option(
        0,
        "Elastic: go on with as few as this, and with more (up to number) when nodes come back; 0 always wants number.",
        least=0,
    )
    cpus: float = option(1.0, "CPUs of each, and its threads.", least=1)
    gpus: float = option(-1.0, "GPUs of each; -1 takes 1 where the cluster has GPUs, else 0.", least=-1, most=1)
    max_failures: int = option(
        3, "Times that training goes on from the last checkpoint after a worker died; -1 always does.", least=-1
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.least and not self.number:
            raise SettingError("number", "workers.least makes the number elastic: give the largest number too")
        if self.least > self.number:
            raise SettingError("least", f"{self.least} is more than workers.number = {self.number}")


@dataclass
class ReconstructionSettings:
    """Loss of the auto-encoder: weights of its terms (`models.learning.losses`). A weight of 0 leaves a term out."""

    l1: float = option(1.0, "Mean absolute difference.", least=0)
    perceptual: float = option(10.0, "Perceptual features at several scales.", least=0)
    component: float = option(100.0, "Perceptual features inside eyes and mouth.", least=0)
    adversarial: float = option(1.0, "Two-scale discriminator.", least=0)
    component_adversarial: float = option(1.0, "Discriminators of eyes and lips.", least=0)
    feature_style: float = option(100.0, "Gram matrices of these discriminators' features.", least=0)
    gradient: float = option(0.0, "Ours: multi-scale L1 of colours and of their differences.", least=0)
    mouth: float = option(0.0, "Ours: L1 once more inside the mouth's box.", least=0)
    curves: float = option(
        0.0,
        "Ours: a linear map from the motion coefficients to what is known of each frame (the source's column curves of "
        "jobs.prepare), squared error of standardised curves.",
        least=0,
    )
    across: float = option(
        0.0,
        "Ours: share of the pairs whose source is a frame of another clip of the speaker. Frames of one clip have one "
        "mood, which the motion code then need not carry. For data in which people look the same in all clips.",
        least=0,
        most=1,
    )
    critic_width: float = option(
        1.0, "Channels of the discriminators, 1 for those of the released auto-encoder.", least=0.01, most=4
    )
    adversarial_from: int = option(
        0, "Step from which on discriminators take part: before it they cost time and teach little.", least=0
    )
    vgg: str = option(
        "",
        "VGG-19 weights in torchvision's layout (.pth or .safetensors), at this path or URI on every node; without "
        "them the perceptual terms compare colours and their differences at several scales, a substitute that the log "
        "and the model folder name.",
    )
    mask_bias: float = option(
        0.0, "Fresh training: masks start at sigmoid of this; below 0 away from copying the source.", least=-10, most=10
    )
    unit_motion: bool = option(
        False,
        "At the end, scale motion latents to a standard deviation of 1, the size of the noise that the second phase "
        "starts from; pictures stay as they are. Ours, not the paper's.",
    )
    start_at_rest: bool = option(
        True, "Fresh training: warps start by leaving the portrait's features where they are; ours, not the paper's."
    )
    decoder_only: bool = option(
        False,
        "Better pictures of a trained model: the decoder alone is trained. Motion latents stay, and so do "
        "the transformer and what jobs.prepare stage=latents made. Ours, not the paper's.",
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.decoder_only and (self.curves or self.unit_motion):
            raise SettingError(
                "decoder_only",
                "curves and unit_motion change motion latents, which stay as they are: give 0 and false, or train all",
            )

    def weights(self, step: int) -> ReconstructionWeights:
        """Of a step."""
        names = ("l1", "perceptual", "component", "gradient", "mouth")
        late = ("adversarial", "component_adversarial", "feature_style")
        return ReconstructionWeights(
            **{name: getattr(self, name) for name in names},
            **{name: getattr(self, name) if step >= self.adversarial_from else 0.0 for name in late},
        )

    @property
    def uses_critics(self) -> bool:
        """Whether discriminators are trained at all."""
        return bool(self.adversarial or self.component_adversarial or self.feature_style)


@dataclass
class MotionSettings:
    """Loss and condition dropout of the transformer."""

    motion: float = option(1.0, "Weight of the difference on the window.", least=0)
    prefix: float = option(1.0, "Weight of giving back the previous frames.", least=0)
    velocity: float = option(1.0, "Weight of the difference between neighbouring frames.", least=0)
    labels: float = option(
        0.0,
        "Share of the windows whose emotion is the one that the source's table names, where it does, instead of what "
        "is heard: it is what a manifest's column emotion asks for when rendering. Ours, not the paper's.",
        least=0,
        most=1,
    )
    across: float = option(
        0.0,
        "Share of the windows whose reference motion is a frame of another clip of the speaker. One of the same clip "
        "has its mood, and the emotion is left with nothing to tell. Ours, not the paper's.",
        least=0,
        most=1,
    )
    drop_reference: float = option(0.1, "How often the reference motion is dropped.", least=0, most=1)
    drop_emotion: float = option(0.1, "How often the emotion is.", least=0, most=1)
    drop_audio: float = option(0.1, "How often the speech is.", least=0, most=1)
    drop_previous_motion: float = option(0.5, "How often the previous motion is.", least=0, most=1)
    drop_previous_audio: float = option(0.5, "How often the previous speech is.", least=0, most=1)

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def weights(self) -> MotionWeights:
        """Of the loss."""
        return MotionWeights(self.motion, self.prefix, self.velocity)

    @property
    def dropout(self) -> Dropout:
        """Of the conditions."""
        return Dropout(
            self.drop_reference, self.drop_emotion, self.drop_audio, self.drop_previous_motion, self.drop_previous_audio
        )


@dataclass
class AdapterSettings:
    """Low-rank adapters on the transformer (stage motion): what a studio trains for one speaker."""

    rank: int = option(
        0, "Rank; 0 trains all weights. Needs peft (pip install 'floatcast[finetune]').", least=0, most=1024
    )
    alpha: float = option(0.0, "Scale is alpha / rank; 0 takes twice the rank.", least=0)

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass
class TrainSettings:
    """Everything that a worker needs to know; what a run's results depend on."""

    stage: str = option("", "autoencoder (phase 1) or motion (phase 2).", choices=("", *STAGES))
    data: str = option("", "Folder that jobs.prepare wrote, local or s3://.")
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    reconstruction: ReconstructionSettings = field(default_factory=ReconstructionSettings)
    motion: MotionSettings = field(default_factory=MotionSettings)
    adapter: AdapterSettings = field(default_factory=AdapterSettings)
    reading: DataSettings = field(default_factory=DataSettings)
    watch: WatchSettings = field(default_factory=WatchSettings)

    @property
    def learning_rate(self) -> float:
        """As given, or the paper's."""
        return self.optimiser.learning_rate or {"autoencoder": 2e-4, "motion": 1e-5}[self.stage]
