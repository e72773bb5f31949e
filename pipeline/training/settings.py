"""Settings of a training job."""

from dataclasses import dataclass, field

from models.learning.objectives import Dropout, MotionWeights
from pipeline.common.options import SettingError, check_ranges, option
from pipeline.training.reconstruction_settings import ReconstructionSettings

STAGES = ("autoencoder", "motion")


@dataclass
class OptimiserSettings:
    """Steps, batch and optimiser.

    The paper uses batch 8, and Adam with 2e-4 and 460,000 steps for the auto-encoder, or 1e-5 and 2,000,000 steps for
    motion.
    """

    steps: int = option(
        0, "Total number of optimiser steps, including those of earlier runs with the same output.", least=0
    )
    batch: int = option(
        8, "Samples per step over all workers, so the results do not depend on the number of workers.", least=1
    )
    micro_batch: int = option(
        0,
        "Samples that a worker processes at a time, with accumulated gradients; 0 processes its whole share at once.",
        least=0,
    )
    learning_rate: float = option(
        0.0, "Learning rate of Adam; 0 uses the paper's values: 2e-4 for autoencoder, 1e-5 for motion.", least=0
    )
    warmup: int = option(0, "Steps over which the learning rate rises from 0.", least=0)
    decay: float = option(
        0.0,
        "Share of the steps, at the end, over which the learning rate falls linearly to 0.",
        least=0,
        most=1,
    )
    clip: float = option(1.0, "Maximum gradient norm; larger gradients are scaled down. 0 does not clip.", least=0)
    ema: float = option(
        0.999,
        "Decay of the exponential moving average (EMA) of the weights that is delivered; 0 disables it.",
        least=0,
        most=1,
    )
    dtype: str = option(
        "auto",
        "dtype of autocast; weights, losses and the optimiser stay in float32. auto uses bfloat16 on GPUs that "
        "support it, and otherwise float32.",
        choices=("auto", "float32", "bfloat16"),
    )
    compile: bool = option(
        False,
        "Compile the training step (torch.compile). It needs a C++ compiler on CPUs and adds a minute at the start. "
        "Measure whether it helps: on CPUs it was no faster at 64 px, and 1.6 times as fast at 256 px with "
        "reconstruction.decoder_only and optimiser.dtype=bfloat16.",
    )
    seed: int = option(0, "Seed of initial values, samples, noise and condition dropout.", least=0, most=2**63 - 1)

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass
class DataSettings:
    """How samples are read."""

    threads: int = option(2, "Threads per worker that read and decode samples ahead.", least=1, most=64)
    ahead: int = option(4, "Number of steps that are read ahead.", least=1, most=64)
    cache_gigabytes: float = option(
        0.0,
        "Memory per worker for decoded frames; frames that fit are decoded only once (stage autoencoder).",
        least=0,
    )

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass
class WatchSettings:
    """What a training run shows, and when it saves."""

    log_every: int = option(
        50, "Steps between two log lines, which are also the points of the learning curves.", least=1
    )
    validate_every: int = option(1000, "Steps between two validations, each with a contact sheet.", least=1)
    save_every: int = option(1000, "Steps between two checkpoints; one more is written at the end.", least=1)
    keep: int = option(3, "Number of checkpoints to keep.", least=1)
    samples: int = option(64, "Number of held-out samples that a validation measures.", least=1)

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass
class WorkerSettings:
    """The training processes."""

    number: int = option(
        0, "Number of workers; 0 uses one per GPU of the cluster, or a single one without GPUs.", least=0
    )
    least: int = option(
        0,
        "Elastic training: continue with as few workers as this, and with more (up to number) when nodes come back; "
        "0 always requires number.",
        least=0,
    )
    cpus: float = option(1.0, "CPUs and threads per worker.", least=1)
    gpus: float = option(-1.0, "GPUs per worker; -1 uses 1 if the cluster has GPUs, and otherwise 0.", least=-1, most=1)
    max_failures: int = option(
        3,
        "How often training may resume from the last checkpoint after a worker has died; -1 means without limit.",
        least=-1,
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.least and not self.number:
            raise SettingError(
                "number", "workers.least makes the number of workers elastic: give the largest number too"
            )
        if self.least > self.number:
            raise SettingError("least", f"{self.least} is more than workers.number = {self.number}")


@dataclass
class MotionSettings:
    """Loss and condition dropout of the transformer."""

    motion: float = option(1.0, "Weight of the difference on the window.", least=0)
    prefix: float = option(1.0, "Weight of the difference on the previous frames.", least=0)
    velocity: float = option(1.0, "Weight of the difference between neighbouring frames.", least=0)
    labels: float = option(
        0.0,
        "Share of the windows that use the emotion label in the source's table, if there is one, instead of the "
        "emotion predicted from speech. The column emotion of a manifest asks for the same when rendering. Not in "
        "the paper.",
        least=0,
        most=1,
    )
    across: float = option(
        0.0,
        "Share of the windows whose reference motion comes from a frame of another clip of the same speaker. A frame "
        "of the same clip shares its mood, which leaves the emotion condition with nothing to add. Not in the paper.",
        least=0,
        most=1,
    )
    drop_reference: float = option(0.1, "Probability of dropping the reference motion.", least=0, most=1)
    drop_emotion: float = option(0.1, "Probability of dropping the emotion.", least=0, most=1)
    drop_audio: float = option(0.1, "Probability of dropping the speech.", least=0, most=1)
    drop_previous_motion: float = option(0.5, "Probability of dropping the previous motion.", least=0, most=1)
    drop_previous_audio: float = option(0.5, "Probability of dropping the previous speech.", least=0, most=1)

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def weights(self) -> MotionWeights:
        """Loss weights."""
        return MotionWeights(self.motion, self.prefix, self.velocity)

    @property
    def dropout(self) -> Dropout:
        """Dropout of the conditions."""
        return Dropout(
            self.drop_reference, self.drop_emotion, self.drop_audio, self.drop_previous_motion, self.drop_previous_audio
        )


@dataclass
class AdapterSettings:
    """Low-rank adapters on the transformer (stage motion), for fine-tuning to a single speaker."""

    rank: int = option(
        0,
        "Rank of the adapters; 0 trains all weights. Adapters need peft (pip install 'floatcast[finetune]').",
        least=0,
        most=1024,
    )
    alpha: float = option(0.0, "The adapters are scaled by alpha / rank; 0 uses twice the rank.", least=0)

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass
class TrainSettings:
    """Everything that a worker needs to know, and that the results of a run depend on."""

    stage: str = option("", "autoencoder (phase 1) or motion (phase 2).", choices=("", *STAGES))
    data: str = option("", "Output folder of jobs.prepare, local or s3://.")
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    reconstruction: ReconstructionSettings = field(default_factory=ReconstructionSettings)
    motion: MotionSettings = field(default_factory=MotionSettings)
    adapter: AdapterSettings = field(default_factory=AdapterSettings)
    reading: DataSettings = field(default_factory=DataSettings)
    watch: WatchSettings = field(default_factory=WatchSettings)

    @property
    def learning_rate(self) -> float:
        """The given learning rate, or the paper's."""
        return self.optimiser.learning_rate or {"autoencoder": 2e-4, "motion": 1e-5}[self.stage]
