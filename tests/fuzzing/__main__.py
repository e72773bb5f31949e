"""Read mutants of ordinary files: `python -m tests.fuzzing kind=audio seconds=3600 seed=1`.

    kind=audio,image   what is read (`kinds.py`); all kinds, one after another, if it is not given
    seed=0             the same seed makes the same mutants
    seconds=60         how long each kind is read, or
    mutants=1000       how many files, and
    first=0            the number of the first one
    keep=FOLDER        where files that do harm are kept, as <kind>-<seed>-<number>-<name>
    again=FILE         reads a file that was kept, and shows what happens

Ends with exit code 1 if a file did harm.
"""

import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.fuzzing.kinds import KINDS, Kind
from tests.fuzzing.mutations import mutant, text_mutant
from tests.fuzzing.processes import Result, results

BATCH = 16
"""Mutants that are read in one process."""


def main(arguments: list[str]) -> int:
    given = dict(argument.split("=", 1) for argument in arguments)
    if unknown := given.keys() - {"kind", "seed", "seconds", "mutants", "first", "keep", "again"}:
        print(f"unknown: {', '.join(sorted(unknown))}\n{__doc__}")
        return 2
    with tempfile.TemporaryDirectory(prefix="fuzzing-") as folder:
        tempfile.tempdir = folder  # what killed processes leave is removed at the end
        if "again" in given:
            return _again(Path(given["again"]))
        kinds = given["kind"].split(",") if given.get("kind") else list(KINDS)
        return int(sum([_fuzz(kind, given) for kind in kinds]) > 0)


def _fuzz(kind: str, given: dict[str, str]) -> int:
    """Read the mutants of a kind; returns how many did harm."""
    seed, number = int(given.get("seed", 0)), int(given.get("first", 0))
    end = number + int(given["mutants"]) if "mutants" in given else None
    until = time.monotonic() + float(given.get("seconds", 60))
    started, reader, seeds = time.monotonic(), KINDS[kind], KINDS[kind].seeds()
    counts: Counter[str] = Counter()
    worst, harm, first = Result(""), 0, number
    while number < end if end is not None else time.monotonic() < until:
        size = BATCH if end is None else min(BATCH, end - number)
        batch = [made(kind, seed, n, seeds) for n in range(number, number + size)]
        for (name, data), result in zip(batch, results(reader.read, batch, reader.refusals), strict=True):
            counts[result.outcome] += 1
            worst = max(worst, result, key=lambda one: one.megabytes)
            if result.is_harm:
                harm += 1
                kept = _keep(given.get("keep"), f"{kind}-{seed}-{number}-{name}", data)
                print(f"{kind} seed={seed} first={number} ({name}){kept}: {result.outcome}", flush=True)
                print(result.details, flush=True)
            number += 1
    outcomes = ", ".join(f"{outcome} x {count}" for outcome, count in counts.most_common(12))
    print(f"{kind}: {number - first} mutants in {time.monotonic() - started:.0f} s, {harm} did harm, at most", end=" ")
    print(f"{worst.megabytes:.0f} MB: {outcomes}", flush=True)
    return harm


def made(kind: str, seed: int, number: int, seeds: dict[str, bytes]) -> tuple[str, bytes]:
    """(name of the file it was made from, contents) of a mutant."""
    rng = random.Random(f"{kind}/{seed}/{number}")
    name = rng.choice(sorted(seeds))
    texts = [text for data in seeds.values() if (text := _text(data)) is not None]
    text = _text(seeds[name])
    if text is not None and rng.random() < 0.8:
        return name, text_mutant(rng, text, texts).encode(errors="surrogatepass")
    return name, KINDS[kind].repaired(name, mutant(rng, seeds[name], list(seeds.values())), rng)


def _text(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def _keep(folder: str | None, name: str, data: bytes) -> str:
    if folder is None:
        return ""
    Path(folder).mkdir(parents=True, exist_ok=True)
    (Path(folder) / name).write_bytes(data)
    return f", kept as {name}"


def _again(file: Path) -> int:
    kind, _, _, name = file.name.split("-", 3)
    reader: Kind = KINDS[kind]
    (result,) = results(reader.read, [(name, file.read_bytes())], reader.refusals)
    print(f"{result.outcome}: {result.megabytes:.0f} MB, {result.seconds:.2f} s\n{result.details}")
    return int(result.is_harm)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
