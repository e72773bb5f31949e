"""Comments of JPEG files, also as Pillow reads and writes them."""

import io

from PIL import Image

from pipeline.media.jpeg_comment import MOST, split_comment, with_comment
from tests import media


def comment_of(jpeg):
    return Image.open(io.BytesIO(jpeg)).info.get("comment")


def test_a_comment_is_in_the_file_and_comes_off_again():
    image = media.picture(media.colours(), "JPEG")
    said = with_comment(image, b"measured: \xff\xd9\xff\xda")
    assert comment_of(said) == b"measured: \xff\xd9\xff\xda"
    assert split_comment(said) == (b"measured: \xff\xd9\xff\xda", image)
    assert Image.open(io.BytesIO(said)).tobytes() == Image.open(io.BytesIO(image)).tobytes()


def test_comments_of_other_programs_are_read():
    image = media.picture(media.colours(), "JPEG", comment=b"by Pillow")
    comment, plain = split_comment(image)
    assert comment == b"by Pillow"
    assert comment_of(plain) is None


def test_the_largest_comment_fits_and_a_larger_one_is_left_out():
    image = media.picture(media.colours(), "JPEG")
    assert comment_of(with_comment(image, b"x" * MOST)) == b"x" * MOST
    assert with_comment(image, b"x" * (MOST + 1)) == image


def test_what_has_no_comment_or_is_no_image_stays_as_it_is():
    image = media.picture(media.colours(), "JPEG")
    for data in (image, b"", b"\xff\xd8", b"\xff\xd8\xff", image[:3], media.picture(media.colours(), "PNG")):
        assert split_comment(data) == (None, data)
