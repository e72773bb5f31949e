"""Values of other people in messages: short, visible, and never the contents of a file."""

from collections.abc import Mapping
from itertools import islice
from typing import Any

from pipeline.common.redaction import redacted

QUOTED = 80
"""Most characters of a value that a message shows."""

NAMES = 5
"""Most names that it shows."""


def quoted(value: Any) -> str:
    """A value for a message: a text in quotes, with invisible characters written out and at most 80 characters.

    Texts lose their credentials before they are cut. Of bytes, lists and structs, only the kind is said.
    """
    if isinstance(value, str):
        # A text of a million characters is not searched for secrets; what is shown has been.
        text = redacted(value[: 50 * QUOTED])
        shown = repr(text[:QUOTED])
        return shown if len(text) <= QUOTED else f"{shown}... ({len(value):,} characters)"
    if value is None or isinstance(value, bool | float):
        return repr(value)
    if isinstance(value, int) and abs(value) < 10**QUOTED:
        return repr(value)
    return kind(value)


def kind(value: Any) -> str:
    """What a value is, in words: `a number`, `a list`, `a struct with bytes, path`."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, bytes | bytearray | memoryview):
        return f"{len(value):,} bytes"
    if isinstance(value, Mapping):
        names = [str(name) for name in islice(value, NAMES + 1)]
        more = ", ..." if len(names) > NAMES else ""
        return (
            f"a struct with {', '.join(name[:QUOTED] for name in names[:NAMES])}{more}" if names else "an empty struct"
        )
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str):
        return "a text"
    if value is None:
        return "null"
    return "a number" if isinstance(value, int | float) else f"of the type {type(value).__name__}"
