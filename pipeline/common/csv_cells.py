"""Texts in CSV files that people open in a spreadsheet, which runs a cell that begins like a formula.

Such a text is written with an apostrophe before it, and read without it. A text that begins with an apostrophe gets
another one, so that every text is read as it was. `report/page/review.js` does the same for review.csv.
"""

from typing import Any

FIRST = "'=+-@\t\r\n＝＋－＠"  # noqa: RUF001 - spreadsheets take the wide signs for the others
"""First characters of a text that is written with an apostrophe before it."""


def cell(value: Any) -> Any:
    """A value for a CSV file that a person may open."""
    return f"'{value}" if isinstance(value, str) and value[:1] in FIRST and value else value


def text_of_cell(text: str) -> str:
    """The text from which `cell` made this one; others are returned as they are."""
    return text[1:] if text[:1] == "'" and text[1:2] in FIRST and text[1:] else text
