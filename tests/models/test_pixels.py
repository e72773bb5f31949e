import numpy as np
import pytest
import torch

from models.pixels import signed, to_images, to_tensor

PICTURES = np.random.default_rng(0).integers(0, 256, (2, 4, 6, 3), dtype=np.uint8)


def test_bytes_survive_the_way_to_a_tensor_and_back():
    tensor = to_tensor(PICTURES)
    assert tensor.shape == (2, 3, 4, 6)
    assert tensor.dtype == torch.float32
    assert np.array_equal(to_images(tensor), PICTURES)
    assert torch.equal(to_tensor(PICTURES[0]), tensor[:1])


def test_black_is_minus_one_and_white_is_one_in_arrays_too():
    assert signed(np.array([0.0, 127.5, 255.0])).tolist() == [-1, 0, 1]
    assert signed(torch.tensor([0.0, 255.0])).tolist() == [-1, 1]


@pytest.mark.parametrize(("value", "byte"), [(-3.0, 0), (3.0, 255), (0.0, 128)])
def test_what_is_outside_is_clamped_on_the_way_back(value, byte):
    assert np.all(to_images(torch.full((1, 3, 2, 2), value)) == byte)
