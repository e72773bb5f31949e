"""Values of a table's row, with the same rules in CSV, JSON and Parquet: what is empty, what is a number, what is text.

`7`, `7.0`, `"7"` and a decimal are the same number everywhere, and true and false are none.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from pipeline.common.bounded import CHARACTERS
from pipeline.common.errors import ClipError
from pipeline.common.quoted import quoted
from pipeline.common.redaction import carries_credentials

NO_NUMBER = ("", "nan", "null", "none", "na", "n/a", "<na>")
"""Texts that mean in a column of numbers that there is none, in any case, as programs write them."""

FILES = ("image", "audio", "pose", "reference", "generated", "video", "curves")
"""Columns of paths, in all tables."""

# Invisible characters that come with pasted values stand at their ends as spaces do.
_ENDS = re.compile(r"^[\s\ufeff\u200b\u2060]+|[\s\ufeff\u200b\u2060]+$")

_NUMBER = re.compile(r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})(e[+-]?[0-9]{1,3})?", re.IGNORECASE)


def trimmed(text: str) -> str:
    """A text without spaces and invisible characters around it."""
    text = text.strip()
    return text if text.isascii() else _ENDS.sub("", text)


def is_absent(value: Any) -> bool:
    """Whether a table gives no value: null, an empty text, or NaN, which pandas writes for missing values."""
    return value is None or value == "" or (isinstance(value, float | Decimal) and math.isnan(value))


def is_blank(value: Any) -> bool:
    """Whether a value is absent, or a text of spaces."""
    return is_absent(value) or (isinstance(value, str) and not trimmed(value))


def number_of(value: Any) -> Any:
    """A value of a column of numbers as int or float if it is a number, None if it is empty, or the value itself."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, str):
        text = trimmed(value)
        if text.lower() in NO_NUMBER:
            return None
        if not _NUMBER.fullmatch(text):
            return value
        value = int(text) if text.lstrip("+-").isdigit() else float(text)
    if isinstance(value, Decimal) and value.is_finite():
        value = float(value) if value % 1 else int(value)
    if is_absent(value):
        return None
    # pandas turns integer columns with gaps into floats.
    return int(value) if isinstance(value, float) and value.is_integer() else value


@dataclass(frozen=True)
class Values:
    """Typed access to the values of one row. Its methods raise ClipError with row, column and what is allowed."""

    place: str
    """`row 3 (line 4)`."""
    given: Mapping[str, Any]
    """The values that are not absent."""
    within: str = ""
    """Where they stand if they are parts of one cell: `faces: faces[2]`."""

    def where(self, column: str) -> str:
        """`row 3 (line 4), column seed`, or `row 3 (line 4), column faces: faces[2], seed`."""
        return f"{self.place}, column {f'{self.within}, {column}' if self.within else column}"

    def invalid(self, column: str, problem: str) -> ClipError:
        """The error of a wrong value."""
        return ClipError("value_invalid", f"{self.where(column)}: {problem}")

    def text(self, column: str) -> str | None:
        """A text, or a number that names something; None if there is none."""
        value = self.given.get(column)
        if value is None:
            return None
        # Speaker and clip ids are often columns of numbers.
        if not isinstance(value, str):
            number = number_of(value)
            if isinstance(number, bool) or not isinstance(number, int):
                hint = ": give a path or URI" if column in FILES else ""
                raise self.invalid(column, f"{quoted(value)} is not text{hint}")
            value = str(number)
        if len(value) > CHARACTERS:
            raise self.invalid(column, f"it has more than {CHARACTERS} characters")
        return value

    def required(self, column: str, problem: str = "a value is required") -> str:
        """A text that must be there."""
        value = self.text(column)
        if value is None:
            raise ClipError("value_missing", f"{self.where(column)}: {problem}")
        return value

    def file(self, column: str, uri: str) -> str:
        """`uri`, unless it can name no file, or would put a secret into the clip's row."""
        if "\0" in uri:
            raise self.invalid(column, f"{quoted(uri)} contains a zero byte, which no name has")
        if carries_credentials(uri):
            raise ClipError(
                "uri_not_allowed",
                f"{self.where(column)}: {quoted(uri)} contains credentials; remove them, because the storage "
                "reads credentials from the environment",
            )
        return uri

    def integer(self, column: str, least: int, most: int, default: int) -> int:
        """An integer in a range."""
        value = number_of(self.given.get(column)) if column in self.given else None
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.invalid(column, f"{quoted(value)} is not an integer from {least} to {most}")
        return value

    def number(self, column: str, least: float, most: float, default: float) -> float:
        """A number in a range."""
        value = number_of(self.given.get(column)) if column in self.given else None
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            comma = isinstance(value, str) and number_of(value.replace(",", ".")) != value.replace(",", ".")
            hint = "; write a point instead of the comma" if comma else ""
            raise self.invalid(column, f"{quoted(value)} is not a number from {least} to {most}{hint}")
        return float(value)

    def choice(self, column: str, allowed: tuple[str, ...], default: str) -> str:
        """One of a few texts."""
        value: Any = self.given.get(column, default)
        if value not in allowed:
            raise self.invalid(column, f"{quoted(value)} is not one of {', '.join(allowed)}")
        return value
