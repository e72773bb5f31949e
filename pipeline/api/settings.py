"""Keyword arguments -> settings of a job, with the same names as on the command line."""

import difflib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

from pipeline.common.errors import RefusedError
from pipeline.common.options import SettingError, is_allowed, refusal

T = TypeVar("T")


def with_values(settings: T, values: Mapping[str, Any], prefix: str = "") -> T:
    """A dataclass of settings with some values set: {"limit": 3, "video.crf": 20, "qc": {"enabled": False}}.

    Raises RefusedError for an unknown name, suggesting the nearest one, and for a value that is not allowed.
    """
    known = {f.name: f for f in fields(settings)}  # type: ignore[arg-type]
    found: dict[str, Any] = {}
    for name, value in values.items():
        head, _, rest = name.partition(".")
        if head not in known:
            close = difflib.get_close_matches(head, known, n=1)
            guess = f": did you mean {prefix}{close[0]}?" if close else f"; the settings are {', '.join(known)}"
            raise RefusedError(f"unknown setting {prefix}{head}{guess}")
        old = found.get(head, getattr(settings, head))
        if is_dataclass(old) and (rest or isinstance(value, Mapping)):
            found[head] = with_values(old, {rest: value} if rest else value, f"{prefix}{head}.")
        elif rest:
            raise RefusedError(f"unknown setting {prefix}{name}: {prefix}{head} is a single value")
        else:
            found[head] = _checked(f"{prefix}{head}", old, value, known[head].metadata)
    try:
        return replace(settings, **found)  # type: ignore[type-var]
    except SettingError as error:
        raise RefusedError(f"{prefix}{error}") from error


def _checked(name: str, old: Any, value: Any, metadata: Mapping[str, Any]) -> Any:
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not type(old):
        raise RefusedError(f"{name}: {value!r} is not allowed; it must be {type(old).__name__}")
    if not is_dataclass(old) and not is_allowed(value, metadata):
        raise RefusedError(f"{name}: {refusal(value, metadata)}")
    return value
