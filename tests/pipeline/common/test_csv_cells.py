"""Texts that a spreadsheet would run are written so that it does not, and are read as they were."""

import re
from pathlib import Path

import pytest

from pipeline.common.csv_cells import FIRST, cell, text_of_cell

PAGE = Path(__file__).parents[3] / "pipeline" / "report" / "page" / "review.js"
TEXTS = ["=1+1", "=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", "\n", "＝1", "'", "''", "'=1", "'a"]  # noqa: RUF001


@pytest.mark.parametrize("text", TEXTS)
def test_what_begins_like_a_formula_gets_an_apostrophe_that_is_not_read(text):
    assert cell(text) == "'" + text
    assert text_of_cell(cell(text)) == text


@pytest.mark.parametrize("value", ["", "a", "a=1", "3-4", "プレゼン", 7, -7, None])
def test_other_values_are_written_as_they_are(value):
    assert cell(value) == value
    assert not isinstance(value, str) or text_of_cell(value) == value


def test_a_name_with_an_apostrophe_that_a_person_wrote_stays():
    assert text_of_cell("'t Hooft") == "'t Hooft"


def test_the_page_of_the_report_knows_the_same_characters():
    (found,) = re.findall(r"\.replace\(/\^\[(.*?)\]/, \"'\$&\"\)", PAGE.read_text("utf-8"))
    assert found.replace("\\-", "-").encode().decode("unicode_escape") == FIRST
