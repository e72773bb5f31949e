"""Settings of the auto-encoder's loss, and of what is trained of it."""

from dataclasses import dataclass

from models.learning.reconstruction import ReconstructionWeights
from pipeline.common.options import SettingError, check_ranges, option


@dataclass
class ReconstructionSettings:
    """Loss of the auto-encoder: the weights of its terms (`models.learning.losses`). A weight of 0 disables a term."""

    l1: float = option(1.0, "Weight of the mean absolute difference.", least=0)
    perceptual: float = option(10.0, "Weight of perceptual features at several scales.", least=0)
    component: float = option(100.0, "Weight of perceptual features inside the eyes and the mouth.", least=0)
    adversarial: float = option(1.0, "Weight of the two-scale discriminator.", least=0)
    component_adversarial: float = option(1.0, "Weight of the discriminators of the eyes and the lips.", least=0)
    feature_style: float = option(100.0, "Weight of the Gram matrices of these discriminators' features.", least=0)
    gradient: float = option(
        0.0, "Not in the paper: weight of a multi-scale L1 loss on colours and their differences.", least=0
    )
    mouth: float = option(
        0.0, "Not in the paper: weight of an additional L1 loss inside the mouth's bounding box.", least=0
    )
    texture: float = option(
        0.0,
        "Not in the paper: weight of the difference in the amount of detail, in cells of 8 x 8 px, for sharper images.",
        least=0,
    )
    level: float = option(
        0.0, "Not in the paper: weight of the squared error in dB, which is what the PSNR measures.", least=0
    )
    curves: float = option(
        0.0,
        "Not in the paper: weight of the squared error of a linear map from the motion coefficients to the known "
        "values of each frame (column curves in the source of jobs.prepare), standardised.",
        least=0,
    )
    curve_changes: float = option(
        0.0,
        "Not in the paper: weight of the same error for the differences between the two frames of a pair. A face alone "
        "does not say what its owner looks like at rest, so a head's pose is known less well than its changes.",
        least=0,
    )
    curve_weights: list[float] = option(
        [], "Factors on the errors of the known values, in their order; empty weights all alike."
    )
    across: float = option(
        0.0,
        "Not in the paper: share of the pairs whose source is a frame from another clip of the same speaker. Frames "
        "of one clip share a mood, which the motion code then need not encode. Use this for data in which people "
        "look the same in all their clips.",
        least=0,
        most=1,
    )
    critic_width: float = option(
        1.0, "Width of the discriminators; 1 is the width used with the released auto-encoder.", least=0.01, most=4
    )
    adversarial_from: int = option(
        0, "Step from which the discriminators take part; before it they cost time and teach little.", least=0
    )
    vgg: str = option(
        "",
        "VGG-19 weights in torchvision's layout (.pth or .safetensors), at this path or URI on every node. Without "
        "them the perceptual terms compare colours and their differences at several scales; the log and the model "
        "folder name this substitute.",
    )
    mask_bias: float = option(
        0.0,
        "New models: masks start at the sigmoid of this value; values below 0 start away from copying the source.",
        least=-10,
        most=10,
    )
    unit_motion: bool = option(
        False,
        "Scale motion latents at the end to a standard deviation of 1, the scale of the noise that the second phase "
        "starts from; the decoded frames do not change. Not in the paper.",
    )
    start_at_rest: bool = option(
        True,
        "New models: warps start as the identity, which leaves the portrait's features in place. Not in the paper.",
    )
    decoder_only: bool = option(
        False,
        "Improve the image quality of a trained model by training the decoder alone. Motion latents do not change, "
        "so the transformer and the latents from jobs.prepare stage=latents stay valid. Not in the paper.",
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        if any(weight < 0 for weight in self.curve_weights):
            raise SettingError("curve_weights", f"{self.curve_weights} must be 0 or more")
        if self.decoder_only and (self.knows_curves or self.unit_motion):
            raise SettingError(
                "decoder_only",
                "curves, curve_changes and unit_motion would change the motion latents, which decoder_only must not "
                "change: set them to 0 and false, or train all parts",
            )

    def weights(self, step: int) -> ReconstructionWeights:
        """Loss weights of a step."""
        names = ("l1", "perceptual", "component", "gradient", "mouth", "texture", "level")
        late = ("adversarial", "component_adversarial", "feature_style")
        return ReconstructionWeights(
            **{name: getattr(self, name) for name in names},
            **{name: getattr(self, name) if step >= self.adversarial_from else 0.0 for name in late},
        )

    @property
    def knows_curves(self) -> bool:
        """Whether a term compares known values of the frames."""
        return bool(self.curves or self.curve_changes)

    @property
    def uses_critics(self) -> bool:
        """Whether discriminators are trained."""
        return bool(self.adversarial or self.component_adversarial or self.feature_style)
