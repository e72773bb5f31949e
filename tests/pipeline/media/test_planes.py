import av
import numpy as np
import pytest
import torch

from pipeline.media.pixel_layout import YUV420P, YUV420P10, YUV422P, YUV422P10, YUV444P10, YUVA444P10, video_frame
from pipeline.media.planes import rgb_to_yuv420, to_planes

LAYOUTS = [YUV420P, YUV420P10, YUV422P, YUV422P10, YUV444P10, YUVA444P10]


def colour(r, g, b, sides=(8, 8)):
    """One picture of one colour, components in 0..1: (1,3,*sides) in [-1,1]."""
    return torch.tensor([r, g, b]).view(1, 3, 1, 1).expand(1, 3, *sides) * 2 - 1


def split(picture, layout):
    """The planes of one picture as int64."""
    return [plane.astype(int) for plane in layout.split(to_planes(picture, layout)[0].numpy())]


@pytest.mark.parametrize(
    ("rgb", "yuv"),
    [  # BT.709-6: Y' = 16 + 219 E'Y, Cb = 128 + 224 (E'B - E'Y) / 1.8556, Cr = 128 + 224 (E'R - E'Y) / 1.5748
        ((0, 0, 0), (16, 128, 128)),
        ((1, 1, 1), (235, 128, 128)),
        ((0.5, 0.5, 0.5), (126, 128, 128)),  # 125.5
        ((1, 0, 0), (63, 102, 240)),
        ((0, 1, 0), (173, 42, 26)),
        ((0, 0, 1), (32, 240, 118)),
        ((1, 1, 0), (219, 16, 138)),
        ((0, 1, 1), (188, 154, 16)),
        ((1, 0, 1), (78, 214, 230)),
    ],
)
def test_colours_have_their_bt709_values(rgb, yuv):
    planes = rgb_to_yuv420(colour(*map(float, rgb)))
    assert planes.shape == (1, 12, 8)
    assert planes.dtype == torch.uint8
    luma, chroma = planes[0, :8], planes[0, 8:].reshape(2, 4, 4)
    assert luma.unique().tolist() == [yuv[0]]
    assert [plane.unique().tolist() for plane in chroma] == [[yuv[1]], [yuv[2]]]


def test_values_out_of_range_are_clamped():
    assert torch.equal(rgb_to_yuv420(3 * colour(1.0, 0.0, 1.0)), rgb_to_yuv420(colour(1.0, 0.0, 1.0)))


def test_chroma_is_sited_at_the_left_between_two_rows():
    picture = colour(0.0, 0.0, 0.0).clone()
    picture[..., 4:] = colour(0.0, 0.0, 1.0)[..., 4:]  # blue from column 4 on
    cb = rgb_to_yuv420(picture)[0, 8:10].reshape(4, 4).tolist()
    # Weights 1 2 1 around columns 0, 2, 4, 6: only column 4 sees a black neighbour, with a quarter of its weight.
    assert cb == [[128, 128, 128 + round(0.75 * 112), 240]] * 4
    picture = colour(0.0, 0.0, 0.0).clone()
    picture[..., 3:, :] = colour(0.0, 0.0, 1.0)[..., 3:, :]  # blue from row 3 on
    cb = rgb_to_yuv420(picture)[0, 8:10].reshape(4, 4)
    assert cb[:, 0].tolist() == [128, 128 + 56, 240, 240]


def test_every_image_of_a_batch_is_converted_alone():
    pictures = torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(2)) * 2 - 1
    assert torch.equal(rgb_to_yuv420(pictures), torch.cat([rgb_to_yuv420(one[None]) for one in pictures]))


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_a_colour_has_its_bt709_values_in_every_layout(layout):
    red, green, blue = 0.25, 0.5, 1.0
    planes = split(colour(red, green, blue, sides=(6, 10)), layout)
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    unit = 2 ** (layout.bits - 8)
    expected = [
        round(unit * (16 + 219 * luma)),
        round(unit * (128 + 224 * (blue - luma) / 1.8556)),
        round(unit * (128 + 224 * (red - luma) / 1.5748)),
        2**layout.bits - 1,
    ]
    chroma = (6 // layout.vertical, 10 // layout.horizontal)
    assert [plane.shape for plane in planes] == [(6, 10), chroma, chroma, (6, 10)][: len(planes)]
    assert [np.unique(plane).tolist() for plane in planes] == [[value] for value in expected[: len(planes)]]
    assert len(planes) == (4 if layout.alpha else 3)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_chroma_is_sited_as_its_layout_says(layout):
    """Blue, whose Cb is 128 + 112, from a column and from a row on; each sample is that of the weights on its site."""
    unit = 2 ** (layout.bits - 8)
    picture = colour(0.0, 0.0, 0.0).clone()
    picture[..., 4:] = colour(0.0, 0.0, 1.0)[..., 4:]
    shares = [0, 0, 0.75, 1] if layout.horizontal == 2 else [0, 0, 0, 0, 1, 1, 1, 1]
    assert split(picture, layout)[1][0].tolist() == [unit * 128 + round(share * 112 * unit) for share in shares]
    picture = colour(0.0, 0.0, 0.0).clone()
    picture[..., 3:, :] = colour(0.0, 0.0, 1.0)[..., 3:, :]
    shares = [0, 0.5, 1, 1] if layout.vertical == 2 else [0, 0, 0, 1, 1, 1, 1, 1]
    assert split(picture, layout)[1][:, 0].tolist() == [unit * 128 + round(share * 112 * unit) for share in shares]


def test_the_first_column_has_itself_to_the_left():
    picture = colour(0.0, 0.0, 0.0).clone()
    picture[..., 0] = colour(0.0, 0.0, 1.0)[..., 0]
    assert split(picture, YUV422P)[1][0].tolist() == [128 + round(0.75 * 112), 128, 128, 128]


def test_layouts_of_one_siting_agree():
    """4:2:2 is 4:2:0 before the mean of two rows, 10 bits are a quarter of a step of 8, and luma is the same."""
    pictures = torch.rand(2, 3, 6, 10, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for picture in pictures:
        small, half, full = (split(picture[None], layout) for layout in (YUV420P, YUV422P10, YUV444P10))
        np.testing.assert_array_equal(half[0], full[0])
        np.testing.assert_allclose(small[0], half[0] / 4, atol=0.75)
        for little, plane in zip(small[1:], half[1:], strict=True):
            np.testing.assert_allclose(little, (plane[::2] + plane[1::2]) / 8, atol=0.75)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
@pytest.mark.parametrize(("width", "height"), [(10, 6), (64, 8), (2, 2)])
def test_a_frame_of_ffmpeg_has_the_same_samples(layout, width, height):
    pictures = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1
    alpha = torch.linspace(0, 1, width).expand(1, 1, height, width)
    planes = to_planes(pictures, layout, alpha)[0].numpy()
    assert planes.shape == (layout.plane_rows(height), width)
    assert layout.height(len(planes)) == height
    frame = video_frame(planes, layout)
    assert (frame.width, frame.height, frame.format.name) == (width, height, layout.name)
    for plane, expected in zip(frame.planes, layout.split(planes), strict=True):
        lines = np.frombuffer(plane, layout.dtype).reshape(plane.height, plane.line_size // expected.itemsize)
        np.testing.assert_array_equal(lines[:, : plane.width], expected)
    if layout.alpha:
        steps = layout.split(planes)[3][0].tolist()
        assert steps == [round(float(share) * 1023) for share in torch.linspace(0, 1, width)]


def test_the_formats_are_those_of_ffmpeg():
    for layout in LAYOUTS:
        known = av.VideoFormat(layout.name, 8, 8)
        chroma = known.components[1]
        assert (8 // chroma.width, 8 // chroma.height) == (layout.horizontal, layout.vertical)
        assert {part.bits for part in known.components} == {layout.bits}
        assert len(known.components) == (4 if layout.alpha else 3)


@pytest.mark.parametrize(("layout", "sides"), [(YUV420P, (7, 8)), (YUV420P, (8, 7)), (YUV422P, (8, 7))])
def test_sides_that_chroma_cannot_share_are_refused(layout, sides):
    with pytest.raises(ValueError, match=f"px does not fit {layout.name}"):
        to_planes(colour(0.0, 0.0, 0.0, sides), layout)
    assert to_planes(colour(0.0, 0.0, 0.0, sides), YUV444P10).shape == (1, 3 * sides[0], sides[1])


@pytest.mark.parametrize(("layout", "shape"), [(YUV420P, (95, 64)), (YUV420P, (12, 9)), (YUV422P10, (7, 8))])
def test_rows_that_are_no_picture_are_refused(layout, shape):
    with pytest.raises(ValueError, match=f"{shape[0]} rows of {shape[1]} samples are no picture in {layout.name}"):
        video_frame(np.zeros(shape, layout.dtype), layout)
