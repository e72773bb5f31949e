"""Limits of the values in a row that another team has written, before anything is made of them.

Deep nesting ends in a RecursionError here and in tables that cannot be read back, and long values in memory that the
driver does not have. A value beyond a limit becomes text that says so, so that one value does not stop the others.
"""

import json
from collections.abc import Collection
from itertools import islice
from typing import Any

LEVELS = 16
"""How deep lists and objects may be nested."""

CHARACTERS = 65_536
"""Length of one value: the characters of its texts, and 8 for each other part."""

ROW_CHARACTERS = 1_048_576
"""Length of all values of a row together."""


def bounded_row(values: dict[str, Any], known: Collection[str] = ()) -> dict[str, Any]:
    """The values of a row within the limits.

    A value that is nested deeper than `LEVELS` or longer than `CHARACTERS` becomes JSON text, which is cut where it is
    too long and says how much is missing. If the whole row is too long, its longest values are left out. What the
    `known` columns may have is checked elsewhere: there, such a value stays of its kind, but loses its contents.
    """
    sizes: dict[str, int] = {}
    found: dict[str, Any] = {}
    for name, value in values.items():
        depth, size = _measured(value)
        if name in known and name != "tags":
            found[name] = value if depth <= LEVELS and size <= CHARACTERS else _hollow(value)
            continue
        found[name] = value if depth <= LEVELS and size <= CHARACTERS else _as_text(value)
        sizes[name] = min(size, CHARACTERS)
    room = ROW_CHARACTERS - sum(sizes.values())
    for name in sorted(sizes, key=lambda name: -sizes[name]) if room < 0 else ():
        if room >= 0:
            break
        room += sizes[name]
        found[name] = f"(left out: the values of this row have more than {ROW_CHARACTERS} characters)"
    return found


def _measured(value: Any) -> tuple[int, int]:
    """(levels of nesting, length) of a value; not further than a limit, and without recursion."""
    if isinstance(value, str | bytes):
        return 0, len(value)
    if not isinstance(value, dict | list | tuple):
        return 0, 8
    deepest = size = 0
    waiting: list[tuple[int, Any]] = [(0, value)]
    while waiting:
        depth, part = waiting.pop()
        deepest = max(deepest, depth)
        if isinstance(part, str | bytes):
            size += len(part)
            continue
        size += 8
        if isinstance(part, dict):
            size += sum(len(name) for name in part if isinstance(name, str))
            part = part.values()
        elif not isinstance(part, list | tuple):
            continue
        deepest = max(deepest, depth + 1)
        if deepest > LEVELS or size > CHARACTERS:
            return deepest, max(size, CHARACTERS)  # it becomes a text that may be as long as a text can be
        waiting.extend((depth + 1, one) for one in part)
    return deepest, size


def _hollow(value: Any) -> Any:
    if isinstance(value, str | bytes):
        return value[: CHARACTERS + 1]  # still too long
    return {str(name)[:80]: "..." for name in islice(value, 20)} if isinstance(value, dict) else ["..."]


def _as_text(value: Any) -> str:
    if isinstance(value, bytes):
        return f"(left out: {len(value)} bytes, more than {CHARACTERS})"
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    except RecursionError:
        return "(left out: it is nested too deeply to be written as JSON)"
    missing = len(text) - CHARACTERS
    return text if missing <= 0 else f"{text[:CHARACTERS]}... ({missing} characters are cut off)"
