"""Sheets: pictures where they belong, in their proportions, and words that stay in their place."""

import io

import numpy as np
import pytest
from PIL import Image

from pipeline.media.contact_sheet import DARK, GREY, WHITE, Tile, comparison_sheet, contact_sheet, in_rows

RED, BLUE = (200, 10, 10), (10, 10, 200)


def filled(colour, height=40, width=40):
    return np.full((height, width, 3), colour, np.uint8)


def test_tiles_without_words_lie_side_by_side_as_they_are():
    one, two = np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), dtype=np.uint8)
    sheet = np.asarray(contact_sheet([[Tile(one), Tile(two)]], side=40))
    assert np.array_equal(sheet, np.concatenate([one, two], axis=1))


def test_an_image_that_is_not_square_keeps_its_proportions_on_the_ground():
    sheet = np.asarray(contact_sheet([[Tile(filled(RED, 20, 80))]], side=40))
    assert sheet.shape == (40, 40, 3)
    assert np.all(sheet[15:25] == RED)
    assert np.all(sheet[:15] == DARK)
    assert np.all(sheet[25:] == DARK)


def test_tiles_of_another_height_hold_wide_images_without_bars():
    sheet = np.asarray(contact_sheet([[Tile(filled(RED, 20, 40)), Tile(filled(BLUE))]], side=40, height=20))
    assert sheet.shape == (20, 80, 3)
    assert np.all(sheet[:, :40] == RED)
    assert np.all(sheet[:, 50:70] == BLUE)
    assert np.all(sheet[:, 40:50] == DARK)


def test_rows_margins_outlines_and_missing_images():
    tiles = [Tile(filled(RED), outline=BLUE), Tile(None, outline=RED), Tile(filled(BLUE))]
    sheet = np.asarray(contact_sheet(in_rows(tiles, 2), side=40, margin=8, ground=WHITE))
    assert sheet.shape == (8 + 2 * 48, 8 + 2 * 48, 3)
    assert np.all(sheet[:8] == WHITE)
    assert tuple(sheet[8, 8]) == BLUE
    assert tuple(sheet[28, 28]) == RED
    assert tuple(sheet[12, 60]) == GREY
    assert tuple(sheet[76, 28]) == BLUE
    assert np.all(sheet[56:, 56:] == WHITE)  # the last row is shorter


@pytest.mark.parametrize("title", ["a name that is far too long for its tile", "two\nlines, and they are long ones"])
def test_a_title_never_reaches_over_that_of_the_next_tile(title):
    alone = np.asarray(contact_sheet([[Tile(filled(RED), title), Tile(filled(RED))]], side=40, line=20))
    cut = np.asarray(contact_sheet([[Tile(filled(RED), title), Tile(filled(RED), " ")]], side=40, line=20))
    assert (alone[:20, 40:] != DARK).any()
    assert np.all(cut[:20, 40:] == DARK)


def test_of_a_long_note_the_end_is_shown():
    notes = [Tile(filled(RED), notes=[(f"clip-of-a-very-long-name-{end}", WHITE)]) for end in ("1", "2")]
    one, two = (np.asarray(contact_sheet([[tile]], side=40))[40:] for tile in notes)
    assert np.array_equal(one[:, :20], two[:, :20])
    assert not np.array_equal(one, two)


def test_rows_with_names_are_one_jpeg_wide_enough_for_its_title():
    data = comparison_sheet({"source": [filled(RED)] * 2, "made": [filled(BLUE)] * 2}, "t" * 80)
    with Image.open(io.BytesIO(data)) as sheet:
        assert sheet.height == 20 + 2 * (20 + 128)
        assert sheet.width > 2 * 128
    assert contact_sheet([], side=16).size == (16, 16)
