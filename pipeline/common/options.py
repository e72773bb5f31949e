"""Settings as dataclasses whose fields have a help sentence, a default and a range.

The command line, YAML files and `--help` are derived from them (`jobs.cli.config`).
"""

from dataclasses import field, fields
from typing import Any

from pipeline.common.errors import RefusedError


def option(
    default: Any,
    text: str,
    *,
    choices: tuple[str, ...] | None = None,
    least: float | None = None,
    most: float | None = None,
    why: str = "",
) -> Any:
    """A dataclass field with its help sentence and its allowed values; a refusal also says `why`."""
    extra = {"help": text, "choices": choices, "least": least, "most": most, "why": why}
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=extra)
    return field(default=default, metadata=extra)


def allowed_values(metadata: Any) -> str:
    """The range of a field in words, or an empty string."""
    if metadata.get("choices"):
        return "one of " + ", ".join(filter(None, metadata["choices"]))  # an empty choice means none
    least, most = metadata.get("least"), metadata.get("most")
    if least is not None and most is not None:
        return f"{least} to {most}"
    return f"{least} or more" if least is not None else ""


class SettingError(RefusedError):
    """A value outside its range; `key` is the name of the field within its group."""

    def __init__(self, key: str, problem: str) -> None:
        super().__init__(f"{key}: {problem}")
        self.key, self.problem = key, problem

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return SettingError, (self.key, self.problem)  # exceptions pickle their args, which are not those of __init__


def is_allowed(value: Any, metadata: Any) -> bool:
    """Whether a value is among a field's choices and inside its range. NaN is outside of every range."""
    choices, least, most = (metadata.get(name) for name in ("choices", "least", "most"))
    if choices and value not in choices:
        return False
    return (least is None or value >= least) and (most is None or value <= most)


def refusal(value: Any, metadata: Any, kind: str = "") -> str:
    """Why a value is not allowed, as a sentence without its key; `kind` is the type that it must have."""
    wanted = ", ".join(filter(None, (kind, allowed_values(metadata))))
    return f"{value!r} is not allowed; it must be {wanted}" + (f"; {metadata['why']}" if metadata.get("why") else "")


def check_ranges(part: Any) -> None:
    """Raise SettingError for the first field of a dataclass that is outside its choices or range."""
    for f in fields(part):
        value = getattr(part, f.name)
        if not is_allowed(value, f.metadata):
            raise SettingError(f.name, refusal(value, f.metadata))
