"""Rows of JSON files: one object a line (JSONL), one array of objects, or objects over several lines each.

JSONL is read line by line, however long the file is. An array, or objects over several lines, are read as a whole, up
to 64 MB.
"""

import json
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any

from pipeline.common.errors import ManifestError
from pipeline.common.quoted import kind, quoted
from pipeline.manifest.table_text import Raw

WHOLE = 64 << 20
"""Most characters of a file that is not JSONL."""

ONE_A_LINE = "write one object {...} a line, without commas and brackets around them"

_SPACE = re.compile(r"[ \t\r\n]*")


def json_rows(uri: str, lines: Iterator[str], notes: tuple[str, ...]) -> Iterator[Raw]:
    """Rows of a JSON file as text. Raises ManifestError for an array or a long object that is broken."""
    start: list[str] = []
    looked = 0
    for line in lines:
        start.append(line)
        looked += bool(line.strip())
        if looked == 2:
            break
    everything = chain(start, lines)
    if _is_whole([line.strip() for line in start if line.strip()]):
        yield from _documents(uri, _whole(uri, everything), notes)
        return
    for number, line in enumerate(everything, start=1):
        if line.strip():
            yield Raw(number, line, notes)


def values_of(text: str) -> dict[str, Any]:
    """The values of a row by column. Raises ValueError, which says why it is no row and what to do."""
    try:
        value = parse_json(text)
    except ValueError as error:
        # Lines from within an array end with commas.
        if not text.rstrip().endswith(","):
            raise ValueError(f"it is not a JSON object ({error}): {ONE_A_LINE}") from None
        return values_of(text.rstrip()[:-1])
    if not isinstance(value, dict):
        raise ValueError(f"it is {kind(value)} and not a JSON object: {ONE_A_LINE}")
    return value


def parse_json(text: str) -> Any:
    """Value of a JSON text.

    Raises ValueError, with a short reason, if it is not JSON, names a value twice in its outermost object, or has half
    a surrogate pair (`\\ud800`), which no table can store.
    """
    outermost: list[tuple[str, Any]] = []

    def remember(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal outermost
        outermost = pairs  # the outermost object is finished last
        return dict(pairs)

    try:
        value = json.loads(text, object_pairs_hook=remember)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except json.JSONDecodeError as error:
        raise ValueError(f"{_reason(error)} at character {error.pos + 1}") from None
    except UnicodeEncodeError:
        raise ValueError("it contains half a character, a \\ud800 without its other half") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError:
        raise ValueError("a number has too many digits") from None
    if isinstance(value, dict) and len(value) < len(outermost):
        names = [name for name, _ in outermost]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{quoted(twice)} appears {names.count(twice)} times")
    return value


def _is_whole(first: list[str]) -> bool:
    """Whether the first lines that are not empty, at most two, begin an array of objects or an object of many lines."""
    if not first:
        return False
    if first[0].startswith("["):
        inside = first[0][1:].strip() or (first[1] if len(first) > 1 else "")
        return inside.startswith(("{", "]"))
    if not first[0].startswith("{") or len(first) < 2 or not first[1].startswith(('"', "}")):
        return False
    try:
        json.loads(first[0])
    except (ValueError, RecursionError):
        return True
    return False


def _whole(uri: str, lines: Iterator[str]) -> str:
    parts, size = [], 0
    for line in lines:
        parts.append(line)
        size += len(line)
        if size > WHOLE:
            raise ManifestError(
                f"{uri} does not have one JSON object a line, and is longer than {WHOLE >> 20} MB: {ONE_A_LINE}"
            )
    return "".join(parts)


def _documents(uri: str, text: str, notes: tuple[str, ...]) -> Iterator[Raw]:
    """The text of each object of an array, or of objects one after another."""
    decoder = json.JSONDecoder()
    line, counted = 1, 0

    def broken(at: int, reason: str) -> ManifestError:
        return ManifestError(f"{uri}, line {text.count(chr(10), 0, at) + 1}: {reason}")

    at = _skipped(text, 0)
    listed = text[at] == "["
    at = _skipped(text, at + listed)
    while at < len(text) and not (listed and text[at] == "]"):
        try:
            _, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise broken(error.pos, f"it is not JSON: {_reason(error)}") from None
        except (ValueError, RecursionError):
            raise broken(at, "it has a number with too many digits, or is nested too deeply") from None
        line, counted = line + text.count("\n", counted, at), at
        yield Raw(line, text[at:end], notes)
        at = _skipped(text, end)
        if text[at : at + 1] == ",":
            at = _skipped(text, at + 1)
        elif listed and text[at : at + 1] not in ("]", ""):
            raise broken(at, "it is not JSON: a comma is missing between two objects")
    if listed and at == len(text):
        raise broken(at, "the array has no closing bracket: is a part of the file missing?")
    if _skipped(text, at + listed) < len(text):
        raise broken(at, "something follows the closing bracket of the array")


def _skipped(text: str, at: int) -> int:
    """Position of the first character from `at` on that is not white space."""
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _reason(error: json.JSONDecodeError) -> str:
    """Reason of the decoder, as part of a sentence."""
    return error.msg[:1].lower() + error.msg[1:]
