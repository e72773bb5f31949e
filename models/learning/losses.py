"""Losses of the motion latent auto-encoder (FLOAT's phase 1). Each is per sample, (B,), and never a batch mean.

The caller can therefore weight samples, and the gradient of a batch is the sum of those of its samples, wherever they
are computed. Components of a face are boxes (B,K,4): left, top, right, bottom as shares of the image's side.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

LEAST_ERROR = 1e-5
"""Mean squared difference of images in [-1,1] below which the level hardly falls: a PSNR of 56 dB."""


def l1(output: Tensor, target: Tensor) -> Tensor:
    """Mean of |output - target| over everything but the batch: (B,...) x 2 -> (B,)."""
    _check_same("output", output, "target", target)
    return (output.float() - target.float()).abs().flatten(1).mean(1)


def perceptual_loss(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """sum_i mean |phi_i(output) - phi_i(target)|: lists of feature maps (B,C,n,n) -> (B,).

    Summed over layers and scales, not averaged: the weight of 10 is that of LIA and of first-order motion models
    (arXiv 2003.00196), whose loss is this sum.
    """
    return torch.stack([l1(one, other) for one, other in zip(found, wanted, strict=True)]).sum(0)


TEXTURE_CELL = 8
"""Side of the cells in which `texture_loss` compares the texture of images, px."""


def texture_loss(output: Tensor, target: Tensor) -> Tensor:
    """Difference of the mean steepness in cells of 8 x 8 pixels: images (B,C,S,S) x 2, S 8 or more -> (B,).

    The steepness of a pixel is |x[i+1,j] - x[i,j]| + |x[i,j+1] - x[i,j]|. Not in the paper. Other losses are least for
    a blurred image wherever a detail may lie a pixel further to one side; this one asks for as much detail as the
    target has, wherever in the cell it lies.
    """
    _check_same("output", output, "target", target)

    def steepness(image: Tensor) -> Tensor:
        right = F.pad((image[..., :, 1:] - image[..., :, :-1]).abs(), (0, 1))
        below = F.pad((image[..., 1:, :] - image[..., :-1, :]).abs(), (0, 0, 0, 1))
        return F.avg_pool2d(right + below, TEXTURE_CELL)

    return l1(steepness(output.float()), steepness(target.float()))


def error_level(output: Tensor, target: Tensor) -> Tensor:
    """Level of the squared difference in dB above 1e-5, 10 log10(1 + mean (output - target)^2 / 1e-5): images (B,...)
    x 2 -> (B,).

    Not in the paper. Above some dB it is what the PSNR lacks, so a dB counts as much in an easy image as in a difficult
    one, and large differences, such as those at a misplaced edge, count more than with L1.
    """
    _check_same("output", output, "target", target)
    return 10 * torch.log10(1 + (output.float() - target.float()).square().flatten(1).mean(1) / LEAST_ERROR)


def curve_loss(read: Tensor, curves: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean (predicted - curves)^2 of known values that a linear map predicts from a frame's motion: (B,...,K) -> (B,).

    `weights` (K,) multiply the values' errors. Not in the paper, and for data with known mouth shapes or head poses:
    requiring that, for example, the jaw opening can be predicted from the motion coefficients makes them encode it. The
    loss uses squares and not absolute values, because for a value that is nearly always 0, such as a blink, the latter
    learn to predict 0.
    """
    _check_same("read", read, "curves", curves)
    missed = (read.float() - curves.float()).square()
    return (missed if weights is None else missed * weights).flatten(1).mean(1)


# --- Components of a face --------------------------------------------------------------------------------------


def component_masks(boxes: Tensor, side: int) -> Tensor:
    """Which cells of a side x side map are inside each box: (B,K,4) -> (B,K,side,side) of 0 and 1.

    A cell is inside if its centre is. A box without any such cell gets the cell at its own centre, so that a mouth does
    not vanish from a coarse map.
    """
    _check_boxes(boxes)
    low, high = boxes.float()[..., :2], boxes.float()[..., 2:]
    cells = torch.arange(side, device=boxes.device)
    centres = (cells + 0.5) / side
    inside = (centres >= low[..., None]) & (centres < high[..., None])  # (B,K,2,side): along x, along y
    middle = ((low + high) / 2 * side).floor().clamp(0, side - 1)
    inside |= (cells == middle[..., None]) & ~inside.any(-1, keepdim=True)
    along_x, along_y = inside.unbind(2)
    return (along_y[..., :, None] & along_x[..., None, :]).float()


def eyes_and_mouth(boxes: Tensor, side: int) -> Tensor:
    """Masks of both eyes together and of the mouth: boxes (B,3,4) of right eye, left eye, mouth -> (B,2,side,side)."""
    right, left, mouth = component_masks(_check_face(boxes), side).unbind(1)
    return torch.stack([torch.maximum(right, left), mouth], dim=1)


def masked_l1(output: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """(1/|M|) ||M * (output - target)||_1, the mean where the mask is 1: (B,C,n,n) x 2, (B,n,n) -> (B,).

    |M| counts cells and channels.
    """
    _check_same("output", output, "target", target)
    difference = (output.float() - target.float()).abs().mean(1)
    return (difference * mask).sum((1, 2)) / mask.sum((1, 2))


def component_loss(found: Sequence[Tensor], wanted: Sequence[Tensor], boxes: Tensor) -> Tensor:
    """Facial-component perceptual loss: sum_i (1/|M_i|) ||M_i * (phi_i(output) - phi_i(target))||_1 -> (B,).

    Feature maps (B,C,n,n), one list per image; boxes (B,3,4). Eyes and mouth have separate masks, recomputed for each
    level i, and their losses are added (FLOAT, arXiv 2412.01064; the paper does not say how its masks are combined).
    """
    total = torch.zeros(len(boxes), device=boxes.device)
    for one, other in zip(found, wanted, strict=True):
        for mask in eyes_and_mouth(boxes, one.shape[-1]).unbind(1):
            total = total + masked_l1(one, other, mask)
    return total


def crop_boxes(image: Tensor, boxes: Tensor, side: int) -> Tensor:
    """Crop the boxes differentiably: image (B,C,S,S), boxes (B,K,4) -> (B,K,C,side,side).

    A box is extended to a square around its centre, so that a face part keeps its proportions whatever those of its box
    are; beyond the image its border is repeated. Bilinear without a low-pass filter: a crop that is much smaller than
    its box in the image has aliasing. Computed in float32 whatever the image's type: bfloat16 cannot represent each of
    512 pixel positions.
    """
    _check_boxes(boxes)
    b, k, _ = boxes.shape
    boxes = boxes.float()
    low, high = boxes[..., :2], boxes[..., 2:]
    # Never smaller than a pixel.
    half = ((high - low).amax(-1) / 2).clamp_min(0.5 / image.shape[-1])
    steps = (torch.arange(side, device=boxes.device) + 0.5) / side * 2 - 1  # pixel centres, -1 to 1 across the box
    where = (low + high)[..., None] / 2 + half[..., None, None] * steps  # (B,K,2,side), shares of the image
    x, y = (where * 2 - 1).unbind(2)
    grid = torch.stack(
        [x[..., None, :].expand(b, k, side, side), y[..., :, None].expand(b, k, side, side)], dim=-1
    )  # (B,K,side,side,2)
    grid = grid.reshape(b, k * side, side, 2)
    cut = F.grid_sample(image.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    return cut.unflatten(2, (k, side)).transpose(1, 2)


# --- Adversarial -----------------------------------------------------------------------------------------------


def generator_adversarial(fake: Tensor) -> Tensor:
    """Non-saturating loss softplus(-D(output)) (Goodfellow et al., arXiv 1406.2661): logits (...) -> (...)."""
    return F.softplus(-fake.float())


def critic_adversarial(real: Tensor, fake: Tensor) -> Tensor:
    """softplus(-D(target)) + softplus(D(output)): logits (...) x 2 -> (...)."""
    return F.softplus(-real.float()) + F.softplus(fake.float())


def gram(features: Tensor) -> Tensor:
    """Gram matrix F F' / (C n^2) with F (C,n^2): (B,C,n,n) -> (B,C,C) (Gatys et al., arXiv 1508.06576)."""
    flat = features.float().flatten(2)
    with torch.autocast(
        flat.device.type, enabled=False
    ):  # autocast would multiply in bfloat16, and styles differ by little
        return flat @ flat.transpose(1, 2) / (flat.shape[1] * flat.shape[2])


def feature_style_loss(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> Tensor:
    """sum_i mean |Gram(psi_i(output)) - Gram(psi_i(target))|, psi_i maps of a discriminator (B,C,n,n) -> (B,).

    Style of face components, as in GFPGAN (arXiv 2101.04061).
    """
    return perceptual_loss([gram(one) for one in found], [gram(one) for one in wanted])


# --- Shapes ----------------------------------------------------------------------------------------------------


def _check_same(name: str, one: Tensor, other_name: str, other: Tensor) -> None:
    if one.shape != other.shape:
        raise ValueError(
            f"{name} has shape {tuple(one.shape)} and {other_name} has shape {tuple(other.shape)}; they must be equal"
        )


def _check_boxes(boxes: Tensor) -> None:
    if boxes.dim() != 3 or boxes.shape[-1] != 4:
        raise ValueError(f"boxes must be (B,K,4), got {tuple(boxes.shape)}")


def _check_face(boxes: Tensor) -> Tensor:
    if boxes.dim() != 3 or boxes.shape[1:] != (3, 4):
        raise ValueError(f"boxes must be (B,3,4): right eye, left eye, mouth; got {tuple(boxes.shape)}")
    return boxes
