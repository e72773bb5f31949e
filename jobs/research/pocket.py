"""Train the bundled model from scratch: `python -m jobs.research.pocket output=...`."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence

from jobs.cli.config import parse
from jobs.cli.exit_codes import ended, fail
from models import ModelFolder
from models.model_folder import CONFIG_FILE
from pipeline.common.progress import duration_text
from pipeline.research.recipe import Recipe, Step, steps
from pipeline.run.exit_codes import DONE, REFUSED
from pipeline.storage.objects import read_bytes, write_bytes
from pipeline.storage.uris import absolute, is_local

USAGE = """
Train the small model that ships with the project: generate its corpus, train its speech encoders and both phases, and
measure what its model card reports. Each step is a command of this project and is printed when it starts. Running the
same command again resumes where the last run ended, on any machine.

  pip install 'floatcast[corpus,voices]'     and, on Debian: apt-get install libegl1 libgl1 libgl1-mesa-dri
  python -m jobs.research.pocket output=pocket               the bundled model: 64 px, hours on two cores
  python -m jobs.research.pocket output=pocket size=256      grow to 128 and 256 px, which trains the decoder alone
  python -m jobs.research.pocket output=pocket begin=pocket  train the bundled auto-encoder further, not a new one
  python -m jobs.research.pocket output=pocket effort=0.1    a quick trial

The model is written to OUTPUT/motion/model, its metrics to OUTPUT/study, and the duration of each step to
OUTPUT/pocket.json.
Options: --help, --plan (print the commands without running them)
Exit codes: 0 trained; 2 the configuration was refused; 130 interrupted; otherwise the code of the failed step.
"""

TIMES = "pocket.json"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, flags = parse(Recipe, USAGE, argv, ["--plan"])
    if not job.output or not is_local(job.output):
        return fail("output: give a local folder", REFUSED)
    if job.size not in (64, 128, 256):
        return fail(f"size: {job.size} is not one of 64, 128, 256", REFUSED)
    job.output = absolute(job.output)
    planned = steps(job)
    if "--plan" in flags:
        for _, arguments in planned:
            print("python -m " + " ".join(arguments))
        return DONE
    return ended(lambda: _run(job.output, planned), "interrupted: run the same command again to resume")


def _run(output: str, planned: Sequence[Step]) -> int:
    code = run_steps(output, planned)
    if code == DONE:
        _show(output)
    return code


def run_steps(output: str, planned: Sequence[Step]) -> int:
    """Run each step that is not done with these arguments, and store how long it took.

    Returns the last step's exit code.
    """
    times = json.loads(read_bytes(f"{output}/{TIMES}") or b"{}")
    for number, (name, arguments) in enumerate(planned, 1):
        known = times.get(name, {})
        if known.get("arguments") == arguments and known.get("done"):
            print(f"[{number}/{len(planned)}] {name}: done before, took {duration_text(known['seconds'])}", flush=True)
            continue
        print(f"\n[{number}/{len(planned)}] {name}: python -m {' '.join(arguments)}", flush=True)
        before = known.get("seconds", 0.0) if known.get("arguments") == arguments else 0.0
        start = time.monotonic()
        code = _command(arguments)
        taken = before + time.monotonic() - start
        times[name] = {"arguments": arguments, "seconds": round(taken, 1), "done": code == 0}
        write_bytes(json.dumps(times, indent=1).encode(), f"{output}/{TIMES}")
        if code:
            return fail(
                f"{name} ended with exit code {code}: see above; run the same command again to resume here", code
            )
    return DONE


def _show(output: str) -> None:
    times = json.loads(read_bytes(f"{output}/{TIMES}") or b"{}")
    model = ModelFolder.open(f"{output}/motion/model")
    print(f"\n{'time':>11}  {duration_text(sum(one['seconds'] for one in times.values()))} for all steps")
    print(f"{'model':>11}  {model.path} (hash {model.hash[:12]}, {_megabytes(model):.1f} MB)")
    print(f"{'next':>11}  python -m jobs.render manifest=jobs/demo/manifest.jsonl output=out model={model.path}")


def _command(arguments: list[str]) -> int:
    """Run the command. An interruption is passed on, and the command has time to save its state."""
    process = subprocess.Popen([sys.executable, "-m", *arguments])
    try:
        return process.wait()
    except KeyboardInterrupt:
        process.terminate()
        process.wait()
        raise


def _megabytes(model: ModelFolder) -> float:
    files = [*model.files, CONFIG_FILE]
    return sum((model.path / name).stat().st_size for name in files) / 1e6


if __name__ == "__main__":
    raise SystemExit(main())
