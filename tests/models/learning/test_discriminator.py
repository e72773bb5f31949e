"""Discriminators: shapes, a logit that is a picture's own, and that they learn to tell two kinds of pictures apart."""

import pytest
import torch

from models.learning.discriminator import Critics, Discriminator, TwoScale, widths
from models.learning.losses import critic_adversarial, crop_boxes
from models.learning.reconstruction import critic_loss

BOXES = torch.tensor([[[0.25, 0.3, 0.4, 0.4], [0.6, 0.3, 0.75, 0.4], [0.35, 0.6, 0.65, 0.8]]])
THIN = 1 / 16


@pytest.fixture(scope="module")
def critics():
    torch.manual_seed(0)
    return Critics(64, THIN)


def test_widths_are_those_of_the_auto_encoder_and_grow_with_the_multiplier():
    assert widths(512) == [512, 512, 512, 512, 256, 128, 64, 32]
    assert widths(64, 2) == [512, 512, 512, 512, 512]
    assert widths(64, 1 / 8) == [64, 64, 64, 64, 32]
    for side in (4, 48, 100):
        with pytest.raises(ValueError, match=f"power of two from 8 on, got {side}"):
            widths(side)


@pytest.mark.parametrize("side", [8, 16, 32, 128])
def test_every_side_that_is_a_power_of_two_has_its_maps_down_to_4_pixels(side):
    logit, maps = Discriminator(side, THIN)(torch.rand(2, 3, side, side))
    assert logit.shape == (2,)
    assert [tuple(one.shape) for one in maps] == [
        (2, channels, n, n)
        for channels, n in zip(widths(side, THIN)[::-1], [side >> i for i in range(len(maps))], strict=True)
    ]
    assert maps[-1].shape[-1] == 4


def test_an_image_has_the_same_logits_alone_and_in_any_batch(critics):
    images = torch.rand(4, 3, 64, 64) * 2 - 1
    boxes = (BOXES + torch.rand(4, 1, 1) * 0.1).contiguous()
    together = critics(images, boxes)
    for i in range(4):
        alone = critics(images[i : i + 1], boxes[i : i + 1])
        torch.testing.assert_close(together.picture[i], alone.picture[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together.eyes.logits[i], alone.eyes.logits[0], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(together.lips.logits[i], alone.lips.logits[0], rtol=1e-4, atol=1e-5)


def test_the_second_scale_is_the_image_at_half_its_side():
    torch.manual_seed(0)
    critic, image = TwoScale(32, THIN), torch.rand(2, 3, 32, 32)
    halved = image.unflatten(2, (16, 2)).unflatten(4, (16, 2)).mean((3, 5))
    torch.testing.assert_close(critic(image)[:, 1], critic.half_size(halved)[0])
    torch.testing.assert_close(critic(image)[:, 0], critic.full_size(image)[0])


def test_both_eyes_go_through_one_critic_one_after_the_other(critics):
    image = torch.rand(2, 3, 64, 64)
    boxes = BOXES.repeat(2, 1, 1)
    judged = critics(image, boxes)
    assert judged.eyes.logits.shape == (2, 2)
    assert judged.lips.logits.shape == (2, 1)
    side = critics.eyes.discriminator.side
    for eye in range(2):
        crop = crop_boxes(image, boxes[:, eye : eye + 1], side)[:, 0]
        logit, maps = critics.eyes.discriminator(crop)
        torch.testing.assert_close(judged.eyes.logits[:, eye], logit, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(judged.eyes.maps[0].unflatten(0, (2, 2))[:, eye], maps[0], rtol=1e-4, atol=1e-5)


def test_crops_follow_the_size_of_the_image():
    with torch.device("meta"):
        sides = {s: Critics(s, THIN) for s in (16, 64, 512)}
    assert [(c.eyes.discriminator.side, c.lips.discriminator.side) for c in sides.values()] == [
        (8, 8),
        (8, 16),
        (64, 128),
    ]


def test_an_image_of_another_size_is_refused(critics):
    with pytest.raises(ValueError, match=r"image must be \(B,3,64,64\), got \(1, 3, 32, 32\)"):
        critics(torch.zeros(1, 3, 32, 32), BOXES)


@pytest.mark.slow
def test_critics_learn_to_tell_two_kinds_of_images_apart():
    torch.manual_seed(0)
    critics = Critics(32, THIN)
    optimiser = torch.optim.Adam(critics.parameters(), lr=2e-3, betas=(0.0, 0.99))
    boxes = BOXES.repeat(8, 1, 1)

    def pictures():
        """Smooth pictures, and rough ones with the same mean and deviation."""
        rough = torch.randn(8, 3, 32, 32)
        smooth = torch.nn.functional.avg_pool2d(torch.randn(8, 3, 36, 36), 5, 1) * 5
        return smooth, rough

    first = None
    for _ in range(60):
        smooth, rough = pictures()
        loss, _ = critic_loss(smooth, rough, boxes, critics)
        first = first if first is not None else loss.mean().item()
        optimiser.zero_grad()
        loss.mean().backward()
        optimiser.step()
    smooth, rough = pictures()
    with torch.no_grad():
        real, fake = critics(smooth, boxes), critics(rough, boxes)
        assert critic_loss(smooth, rough, boxes, critics)[0].mean() < first / 4
    assert (real.picture > 0).all()
    assert (fake.picture < 0).all()
    for mine, theirs in ((real.eyes, fake.eyes), (real.lips, fake.lips)):
        right = torch.cat([mine.logits.flatten() > 0, theirs.logits.flatten() < 0])
        assert right.float().mean() > 0.9
    assert critic_adversarial(real.picture, fake.picture).mean() < 0.2
