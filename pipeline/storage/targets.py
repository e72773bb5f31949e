"""The files that a job will write into its output folder, checked before it writes any of them.

An output folder may be any folder, also one with a person's own files. What an earlier run of the same job wrote is
replaced; nothing else is.
"""

import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

import pyarrow.parquet as pq

from models.model_folder import CONFIG_FILE, ENCODERS, WEIGHTS_FILE
from pipeline.common.errors import RefusedError
from pipeline.storage.objects import check_folder, filesystem, list_folder, list_sizes, read_bytes
from pipeline.storage.records import is_of_the_storage, jpeg_problem
from pipeline.storage.trouble import MISNAMED, raise_if_trouble
from pipeline.storage.uris import absolute, is_local, join, normal, shown

Test = Callable[[str], bool]
"""Whether the file under a URI was written by an earlier run."""

HEAD = 16_384
"""Bytes at the start of a page that tell whether it is ours."""


@dataclass(frozen=True)
class Target:
    """A file or a folder of files that a job replaces."""

    name: str
    is_ours: Test
    is_folder: bool = False


def check_targets(
    output: str,
    targets: Iterable[Target],
    inputs: Mapping[str, str],
    is_known: Callable[[], bool] = lambda: False,
    folders: Iterable[str] = (),
) -> None:
    """Raise RefusedError if `output` or one of its `folders` is a file, if an input lies where a target will, or if a
    target is not from an earlier run.

    Where `is_known` says that the output is that of an earlier run, such a file is not foreign, but damaged.
    `inputs` are places by setting. Raises StorageError. Costs a listing of the folder and a look into each target, and
    creates nothing.
    """
    targets = list(targets)
    check_folder(output, "output")
    for name in folders:
        check_folder(join(output, name), "output")
    for key, place in inputs.items():
        for target in targets:
            if place and same_place(place, join(output, target.name)):
                kind = "folder" if target.is_folder else "file"
                raise RefusedError(
                    f"{key}: {shown(absolute(place))} is the {kind} that this job will replace with its own "
                    f"{target.name}: rename it, or choose another output"
                )
    files = set(list_folder(output)) if any(not target.is_folder for target in targets) else set()
    foreign = []
    for target in targets:
        uri = join(output, target.name)
        if is_local(output) and os.path.isdir(uri) != target.is_folder and os.path.lexists(uri) and not is_known():
            kind = "a file, not a folder" if target.is_folder else "a folder, not a file"
            raise RefusedError(
                f"output: {shown(uri)} is {kind}, and this job writes under that name: rename it, or choose another "
                "output"
            )
        if (target.is_folder or target.name in files) and not _is_ours(target, uri):
            foreign.append(target.name)
    if foreign and not is_known():
        raise RefusedError(
            f"output: {shown(output)} contains {', '.join(foreign)}, which no earlier run of this job wrote, but "
            "which it would replace: move such files away, or choose another output"
        )


def _is_ours(target: Target, uri: str) -> bool:
    try:
        return target.is_ours(uri)
    except MISNAMED:
        return True  # it has just gone
    except Exception as error:  # of any format
        if is_of_the_storage(error):
            raise_if_trouble(error, f"{shown(uri)} could not be read")
        return False


def same_place(one: str, other: str) -> bool:
    """Whether two paths or URIs name the same file, also through links."""
    one, other = absolute(one), absolute(other)
    if not (is_local(one) and is_local(other)):
        return normal(one) == normal(other)
    if os.path.exists(one) and os.path.exists(other):
        return os.path.samefile(one, other)
    return os.path.realpath(one) == os.path.realpath(other)


# --- What earlier runs wrote -----------------------------------------------------------------------------------


def table_with(*columns: str) -> Test:
    """A Parquet file with these columns."""

    def test(uri: str) -> bool:
        fs, path = filesystem(uri)
        with fs.open(path, "rb") as file:
            return set(columns) <= set(pq.read_schema(file).names)

    return test


def tables_with(*columns: str) -> Test:
    """A folder that has nothing but Parquet files, the first of them with these columns."""

    def test(uri: str) -> bool:
        names = sorted(name for name in list_folder(uri) if name[0] not in "._")
        if not all(name.endswith(".parquet") for name in names):
            return False
        return not names or table_with(*columns)(join(uri, names[0]))

    return test


def json_with(*keys: str) -> Test:
    """A JSON object with these keys."""

    def test(uri: str) -> bool:
        value = json.loads(read_bytes(uri) or b"{}")
        return isinstance(value, dict) and set(keys) <= set(value)

    return test


def lines_with(*keys: str) -> Test:
    """A JSONL file whose first line has these keys; an empty file is one, too."""

    def test(uri: str) -> bool:
        fs, path = filesystem(uri)
        with fs.open(path, "rb") as file:
            rows = [json.loads(line) for line in islice(file, 1)]
        return all(isinstance(row, dict) and set(keys) <= set(row) for row in rows)

    return test


def is_jpeg(uri: str) -> bool:
    """A whole JPEG image."""
    return not jpeg_problem(read_bytes(uri) or b"")


def is_page(uri: str) -> bool:
    """A page that this program wrote."""
    fs, path = filesystem(uri)
    with fs.open(path, "rb") as file:
        head = file.read(HEAD)
    return b'<meta name="referrer" content="no-referrer">' in head or b"Floatcast" in head


# --- Model folders ---------------------------------------------------------------------------------------------

CONFIG_KEYS = ("name", "licence", "config", "files")
"""Keys that the config.json of every model folder has."""


def is_model(uri: str) -> bool:
    """Whether a folder is that of a model."""
    try:
        return json_with(*CONFIG_KEYS)(join(uri, CONFIG_FILE))
    except ValueError:
        return False


def is_empty(uri: str) -> bool:
    """Whether there is nothing in a folder, or no folder."""
    return not any(True for _ in list_sizes(uri))


MODEL_FILES = (
    Target(CONFIG_FILE, json_with(*CONFIG_KEYS)),
    Target(WEIGHTS_FILE, lambda uri: False),  # nothing in it says who wrote it
    *(Target(name, is_empty, is_folder=True) for name in ENCODERS),
)
