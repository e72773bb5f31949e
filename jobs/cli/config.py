"""Command line -> configuration: `key=value` arguments override a YAML file, which overrides the defaults.

The schema is a dataclass, nested for groups of keys, whose fields have a help sentence and allowed values
(`pipeline.common.options.option`). This module does not know the meaning of any key.
"""

import difflib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, TypeVar, cast, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from jobs.cli.exit_codes import fail
from pipeline.common.errors import RefusedError
from pipeline.common.options import SettingError, allowed_values, is_allowed, refusal
from pipeline.common.redaction import carries_credentials
from pipeline.common.terminal import filter_output
from pipeline.run.exit_codes import REFUSED
from pipeline.storage.setting_files import read_setting
from pipeline.storage.uris import absolute

T = TypeVar("T")

CONFIG_KEY = "config"


class ConfigError(RefusedError):
    """A configuration that is refused; the message names the key and what is allowed."""


@dataclass(frozen=True)
class Key:
    """One setting of a schema."""

    name: str
    """Full name, with its groups: video.crf."""
    type: Any
    default: Any
    metadata: Any
    """Help and allowed values, as `pipeline.common.options.option` holds them."""

    @property
    def help(self) -> str:
        """Its help sentence."""
        return self.metadata.get("help", "")

    @property
    def allowed(self) -> str:
        """Its range in words, or an empty string."""
        return allowed_values(self.metadata)

    @property
    def type_name(self) -> str:
        """Name of its type in help texts."""
        return getattr(self.type, "__name__", str(self.type)) if self.type in (str, int, float, bool) else "list"


def keys(schema: type, prefix: str = "") -> Iterator[Key]:
    """All keys of a schema, groups in order."""
    hints = get_type_hints(schema)
    for f in fields(schema):
        if is_dataclass(hints[f.name]):
            yield from keys(hints[f.name], f"{prefix}{f.name}.")
            continue
        default = f.default_factory() if f.default_factory is not MISSING else f.default
        yield Key(f"{prefix}{f.name}", hints[f.name], default, f.metadata)


def load_config(schema: type[T], arguments: Sequence[str]) -> T:
    """Read `key=value` arguments, and the YAML file that `config=FILE` names. Raises ConfigError."""
    known = {key.name: key for key in keys(schema)}
    pairs = [_split(argument) for argument in arguments]
    config = OmegaConf.structured(schema)
    for file in [value for key, value in pairs if key == CONFIG_KEY]:
        for key, value in _yaml_values(file):
            _set(config, known, key, value)
    for key, text in pairs:
        if key != CONFIG_KEY:
            # Paths and names stay as they are typed; only lists are parsed as YAML.
            is_list = key in known and known[key].type_name == "list"
            _set(config, known, key, _listed(key, text) if is_list else text)
    try:
        return cast(T, OmegaConf.to_object(config))
    except SettingError as error:
        raise ConfigError(_in_group(schema, error)) from None


def _in_group(schema: type, error: SettingError) -> str:
    """The message of a SettingError, with the key's full name if it is unique in the schema."""
    names = [key.name for key in keys(schema) if key.name.rsplit(".", 1)[-1] == error.key]
    return f"{' or '.join(names) or error.key}: {error.problem}"


def _split(argument: str) -> tuple[str, str]:
    key, separator, value = argument.partition("=")
    if not separator:
        raise ConfigError(f"{argument!r} is not of the form key=value; --help lists the keys")
    return key.strip(), value


def _listed(key: str, text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(
            f"{key}: {text!r} is not a list; write [a, b], and put special characters in quotes: ['*']"
        ) from None


def _yaml_values(file: str) -> Iterator[tuple[str, Any]]:
    try:
        tree = yaml.safe_load(read_setting(CONFIG_KEY, absolute(file)).decode("utf-8-sig")) or {}
    except SettingError as error:
        raise ConfigError(str(error)) from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"config: {file} is not YAML{_where(error)}: write one key: value per line") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"config: {file} holds no keys with values: write one key: value per line")
    yield from _flatten(tree)


def _where(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    return "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"


def _flatten(tree: dict[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _set(config: DictConfig, known: dict[str, Key], name: str, value: Any) -> None:
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        guess = f"did you mean {close[0]}? " if close else ""
        raise ConfigError(f"unknown key {name!r}: {guess}--help lists all {len(known)} keys")
    key = known[name]
    if isinstance(value, str) and carries_credentials(value):
        raise ConfigError(
            f"{name}: {value!r} contains credentials; remove them, because the storage reads credentials from the "
            "environment"
        )
    try:
        OmegaConf.update(config, name, value)
        allowed = is_allowed(OmegaConf.select(config, name), key.metadata)
    except (OmegaConfBaseException, ValueError):
        allowed = False
    if not allowed:
        raise ConfigError(f"{name}: {refusal(value, key.metadata, key.type_name)}")


def help_text(schema: type, usage: str) -> str:
    """`--help`: every key with its sentence, type, allowed values and default."""
    lines = [
        usage.strip(),
        "",
        "Keys (write key=value; config=FILE reads keys from a YAML file, and the command line takes precedence):",
        "",
    ]
    group = ""
    for key in keys(schema):
        head = key.name.rpartition(".")[0]
        if head != group:
            lines.append("")
            group = head
        allowed = f", {key.allowed}" if key.allowed else ""
        default = "empty" if key.default in ("", None) else key.default
        lines.append(f"  {key.name}  ({key.type_name}{allowed}; default {default})")
        lines.append(f"      {key.help}")
    return "\n".join(lines)


def parse(
    schema: type[T], usage: str, argv: Sequence[str] | None = None, flags: Sequence[str] = ()
) -> tuple[T, set[str]]:
    """Configuration and given flags from `argv`, or from the command line if it is None.

    Every job begins here, so from here on what it prints is filtered for terminals.

    Raises SystemExit: with 0 after printing help, with 2 after printing an error.
    """
    filter_output()
    arguments = list(sys.argv[1:] if argv is None else argv)
    if "--help" in arguments or "-h" in arguments:
        print(help_text(schema, usage))
        raise SystemExit(0)
    given = {argument for argument in arguments if argument in flags}
    rest = [argument for argument in arguments if argument not in flags]
    try:
        unknown = [argument for argument in rest if argument.startswith("-")]
        if unknown:
            raise ConfigError(f"unknown option {unknown[0]}; the options are {', '.join(['--help', *flags])}")
        return load_config(schema, rest), given
    except ConfigError as error:
        raise SystemExit(fail(str(error), REFUSED)) from None
