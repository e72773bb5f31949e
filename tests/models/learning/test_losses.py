"""Losses against answers known in advance."""

import math

import pytest
import torch
import torch.nn.functional as F

from models.learning.losses import (
    component_loss,
    component_masks,
    critic_adversarial,
    crop_boxes,
    curve_loss,
    error_level,
    eyes_and_mouth,
    feature_style_loss,
    generator_adversarial,
    gram,
    l1,
    masked_l1,
    perceptual_loss,
    texture_loss,
)
from models.learning.perceptual import GradientPyramid
from pipeline.training.frames import psnr

FACE = torch.tensor([[[0.125, 0.25, 0.375, 0.375], [0.625, 0.25, 0.875, 0.375], [0.25, 0.625, 0.75, 0.875]]])
"""Edges lie between the pixels of 8 and more: left eye from column 2 to 6 of 16, and so on."""


def whole(left, top, right, bottom):
    return torch.tensor([[[left, top, right, bottom]]], dtype=torch.float32)


# --- Pixels and features ---------------------------------------------------------------------------------------


def test_l1_is_the_mean_of_each_sample():
    target = torch.zeros(2, 3, 4, 4)
    output = target.clone()
    output[1] = -0.5
    output[1, 0, 0, 0] = 1.5
    assert l1(output, target).tolist() == pytest.approx([0.0, (47 * 0.5 + 1.5) / 48])


def test_the_perceptual_loss_adds_the_means_of_all_levels():
    wanted = [torch.zeros(2, 4, 8, 8), torch.zeros(2, 6, 4, 4)]
    found = [torch.full((2, 4, 8, 8), 0.25), torch.stack([torch.full((6, 4, 4), -1.0), torch.zeros(6, 4, 4)])]
    assert perceptual_loss(found, wanted).tolist() == pytest.approx([1.25, 0.25])
    assert perceptual_loss(wanted, wanted).tolist() == [0.0, 0.0]


def test_the_level_of_the_error_grows_by_what_the_psnr_falls_whatever_the_image():
    target = torch.rand(2, 3, 8, 8)
    output = target + torch.tensor([0.1, 0.01])[:, None, None, None]
    assert error_level(output, target).tolist() == pytest.approx([30.0, 10.4], abs=0.1)
    double = target + 2 * (output - target)
    risen, fallen = (
        error_level(double, target) - error_level(output, target),
        psnr(output, target) - psnr(double, target),
    )
    assert risen.tolist() == pytest.approx(fallen.tolist(), abs=0.5)
    assert error_level(target, target).tolist() == [0.0, 0.0]


def test_the_texture_loss_asks_for_detail_and_not_for_its_place():
    target = torch.zeros(1, 1, 16, 16)
    target[..., 2::8] = 1
    shifted, blurred = target.roll(1, -1), F.avg_pool2d(F.pad(target, (1, 1, 0, 0)), (1, 3), 1)
    assert texture_loss(target, target).item() == texture_loss(shifted, target).item() == 0
    # In each row of a cell the steps up and down sum to 2; of the blurred line's, to 2/3.
    assert texture_loss(blurred, target).item() == pytest.approx((2 - 2 / 3) / 8)
    assert l1(blurred, target) < l1(shifted, target)


def test_the_curve_loss_is_the_mean_squared_error_of_each_sample():
    read = torch.tensor([[1.0, 5], [0, 2]], requires_grad=True)
    loss = curve_loss(read, torch.tensor([[1.0, 5], [1, 0]]))
    assert loss.tolist() == [0.0, 2.5]
    loss.sum().backward()
    assert read.grad.tolist() == [[0.0, 0.0], [-1.0, 2.0]]
    weighted = curve_loss(read, torch.tensor([[1.0, 5], [1, 0]]), torch.tensor([4.0, 0.0]))
    assert weighted.tolist() == [0.0, 2.0]


# --- Components ------------------------------------------------------------------------------------------------


def test_a_mask_has_the_cells_whose_centres_are_inside():
    mask = component_masks(whole(0.25, 0.5, 0.75, 1.0), 8)[0, 0]
    expected = torch.zeros(8, 8)
    expected[4:8, 2:6] = 1
    assert torch.equal(mask, expected)
    # 0.3 * 8 = 2.4 is below the centre of column 2, 0.7 * 8 = 5.6 beyond that of column 5.
    assert torch.equal(component_masks(whole(0.3, 0.3, 0.7, 0.7), 8)[0, 0, 4], torch.tensor([0.0, 0, 1, 1, 1, 1, 0, 0]))


@pytest.mark.parametrize("side", [64, 32, 16, 8])
def test_masks_at_every_level_are_the_box_at_that_level(side):
    masks = component_masks(FACE, side)
    areas = (FACE[..., 2] - FACE[..., 0]) * (FACE[..., 3] - FACE[..., 1])
    assert torch.equal(masks.sum((2, 3)), areas * side**2)
    eyes, mouth = eyes_and_mouth(FACE, side)[0]
    assert torch.equal(eyes, masks[0, 0] + masks[0, 1])
    assert torch.equal(mouth, masks[0, 2])


@pytest.mark.parametrize(
    ("box", "cell"),
    [
        ((0.53, 0.28, 0.6, 0.3), (1, 2)),  # too small for any centre of a 4 x 4 map
        ((0.5, 0.5, 0.5, 0.5), (2, 2)),  # empty
        ((1.2, -0.5, 1.4, -0.3), (0, 3)),  # out of the picture: the nearest
    ],
)
def test_a_box_that_vanishes_at_a_coarse_level_covers_one_cell(box, cell):
    mask = component_masks(whole(*box), 4)[0, 0]
    assert mask.sum() == 1
    assert mask[cell] == 1


def test_the_masked_l1_is_the_mean_inside_whatever_is_outside():
    mask = component_masks(whole(0.25, 0.25, 0.5, 0.75), 8)[:, 0]
    target, output = torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 9.0)
    output[..., 2:6, 2:4] = 0.5
    assert masked_l1(output, target, mask).item() == pytest.approx(0.5)


def test_the_component_loss_sees_only_what_is_inside_the_boxes():
    wanted = GradientPyramid().features(torch.zeros(1, 3, 64, 64))
    outside = torch.zeros(1, 3, 64, 64)
    outside[..., :8, :] = 1  # above the eyes, by more than a cell of the coarsest level
    assert component_loss(GradientPyramid().features(outside), wanted, FACE).item() == 0
    inside = torch.zeros(1, 3, 64, 64)
    inside[..., 40:56, 16:48] = 1  # the mouth, exactly
    assert component_loss(GradientPyramid().features(inside), wanted, FACE).item() > 1


def test_the_component_loss_is_the_same_for_a_difference_of_one_everywhere_however_large_the_boxes():
    wanted = [torch.zeros(2, 5, n, n) for n in (64, 32, 16, 8)]
    found = [one + 1 for one in wanted]
    small = FACE.clone()
    small[..., 2:] = small[..., :2] + 0.03
    # One for each of four levels, for the eyes and for the mouth.
    assert component_loss(found, wanted, torch.cat([FACE, small])).tolist() == pytest.approx([8.0, 8.0])


def test_a_crop_on_the_pixel_grid_is_a_slice():
    image = torch.randn(2, 3, 32, 32)
    boxes = torch.stack([whole(0.25, 0.5, 0.5, 0.75)[0], whole(0.0, 0.0, 0.25, 0.25)[0]])
    crops = crop_boxes(image, boxes, 8)
    torch.testing.assert_close(crops[0, 0], image[0, :, 16:24, 8:16], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(crops[1, 0], image[1, :, 0:8, 0:8], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(crop_boxes(image, whole(0, 0, 1, 1).repeat(2, 1, 1), 32)[:, 0], image, atol=1e-4, rtol=0)


def test_a_crop_keeps_proportions_and_the_order_of_boxes():
    ramp = torch.linspace(0, 1, 64)
    image = torch.stack([ramp.expand(64, 64), ramp[:, None].expand(64, 64)])[None]  # x and y of every pixel
    crops = crop_boxes(image, FACE, 16)
    # Its box is 0.25 wide and 0.125 high; the crop is a square of 0.25 around the same middle.
    for number, (x, y, half) in enumerate([(0.25, 0.3125, 0.125), (0.75, 0.3125, 0.125), (0.5, 0.75, 0.25)]):
        across = torch.tensor([x, y]) + torch.tensor([[-half], [half]]) * 15 / 16
        corners = torch.stack([crops[0, number, :, 0, 0], crops[0, number, :, -1, -1]])
        # Pixel centres of the ramp: value v lies at (v * 63 + 0.5) / 64.
        torch.testing.assert_close((corners * 63 + 0.5) / 64, across, rtol=0, atol=1e-4)


def test_gradients_flow_through_a_crop_to_its_pixels_alone():
    image = torch.zeros(1, 3, 32, 32, requires_grad=True)
    crop_boxes(image, whole(0.25, 0.5, 0.5, 0.75), 8).sum().backward()
    inside = torch.zeros(32, 32)
    inside[16:24, 8:16] = 1
    torch.testing.assert_close(image.grad, inside.expand(1, 3, 32, 32), rtol=1e-4, atol=1e-4)


def test_a_crop_of_a_bfloat16_image_is_as_exact_as_the_image():
    image = torch.randn(1, 3, 512, 512)
    box = whole(0.6875, 0.6875, 0.8125, 0.8125)
    expected = image[..., 352:416, 352:416].bfloat16().float()
    torch.testing.assert_close(crop_boxes(image.bfloat16(), box, 64)[:, 0], expected, rtol=0, atol=1e-3)


# --- Adversarial -----------------------------------------------------------------------------------------------


def test_adversarial_losses_at_known_logits():
    zero, sure = torch.zeros(1), torch.full((1,), 20.0)
    assert generator_adversarial(zero).item() == pytest.approx(math.log(2))
    assert critic_adversarial(zero, zero).item() == pytest.approx(2 * math.log(2))
    assert critic_adversarial(sure, -sure).item() == pytest.approx(0, abs=1e-6)
    assert critic_adversarial(-sure, sure).item() == pytest.approx(40)
    assert generator_adversarial(sure).item() == pytest.approx(0, abs=1e-6)
    assert generator_adversarial(-sure).item() == pytest.approx(20)


def test_a_generator_that_is_found_out_still_has_a_gradient():
    logit = torch.tensor([-20.0, 0.0], requires_grad=True)
    generator_adversarial(logit).sum().backward()
    assert logit.grad.tolist() == pytest.approx([-1.0, -0.5])  # -(1 - sigmoid)


def test_the_gram_matrix_of_known_features():
    features = torch.tensor([[1.0, 2, 3, 4], [0, 1, 0, -1]]).view(1, 2, 2, 2)
    expected = torch.tensor([[30.0, -2], [-2, 2]]) / (2 * 4)
    torch.testing.assert_close(gram(features), expected[None])
    # Places do not count.
    torch.testing.assert_close(gram(features.flip(2, 3)), expected[None])


def test_the_style_loss_compares_gram_matrices_and_adds_levels():
    ones, zeros = torch.ones(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    # Every entry of the Gram matrix of ones is 16 / (2 * 16).
    assert feature_style_loss([ones, ones], [zeros, zeros]).item() == pytest.approx(1.0)
    moved = torch.randn(2, 3, 8, 8)
    assert feature_style_loss([moved], [moved.flip(2)]).abs().max() < 1e-6


def test_every_loss_of_a_batch_is_that_of_each_sample():
    generator = torch.Generator().manual_seed(3)
    one, other = (torch.randn(3, 4, 16, 16, generator=generator) for _ in range(2))
    boxes = FACE.repeat(3, 1, 1) * torch.tensor([1.0, 0.9, 0.8])[:, None, None]
    for loss in (
        lambda a, b, at: l1(a, b),
        lambda a, b, at: perceptual_loss([a, a[..., :4]], [b, b[..., :4]]),
        lambda a, b, at: component_loss([a], [b], at),
        lambda a, b, at: feature_style_loss([a], [b]),
    ):
        together = loss(one, other, boxes)
        alone = torch.cat([loss(one[i : i + 1], other[i : i + 1], boxes[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(together, alone)


def test_shapes_that_do_not_fit_are_refused_by_name():
    picture = torch.zeros(1, 3, 8, 8)
    with pytest.raises(ValueError, match=r"output has shape \(1, 3, 8, 8\) and target has shape \(1, 3, 4, 4\)"):
        l1(picture, picture[..., :4, :4])
    with pytest.raises(ValueError, match=r"boxes must be \(B,3,4\): right eye, left eye, mouth; got \(1, 2, 4\)"):
        component_loss([picture], [picture], FACE[:, :2])
    with pytest.raises(ValueError, match=r"boxes must be \(B,K,4\), got \(3, 4\)"):
        crop_boxes(picture, FACE[0], 8)
