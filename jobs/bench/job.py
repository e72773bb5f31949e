"""The configuration and the results of a benchmark."""

import json
import os
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from pipeline.common.errors import RefusedError
from pipeline.common.options import option

DEMO = Path(__file__).parents[1] / "demo" / "manifest.jsonl"

FULL = "full"

FORMAT = "floatcast-benchmark/1"

Figures = dict[str, Any]
"""Named values of a section, as in the JSON file."""


@dataclass
class BenchmarkJob:
    """Configuration of `jobs.benchmark`."""

    model: str = option(
        FULL,
        "full is a model of the paper's size (512 px) made of the bundled weights, pocket is the bundled one (64 px), "
        "anything else is a model folder.",
    )
    device: str = option(
        "auto",
        "Device to compute on; auto takes a GPU if PyTorch finds one.",
        choices=("auto", "cpu", "cuda"),
    )
    minutes: float = option(
        8.0,
        "Time limit. Sections for which too little time is left are skipped and named; one that takes too long is "
        "ended.",
        least=0.1,
    )
    sections: list[str] = option([], "Sections to measure, in any order; empty measures all.")
    threads: int = option(0, "Number of CPU threads; 0 uses every CPU.", least=0)
    mode: str = option(
        "auto",
        "Mode of the engine, as for render.mode; auto is what a long job would choose on this device.",
        choices=("auto", "tuned", "compiled", "eager"),
    )
    slots: int = option(0, "Number of clips whose motion is sampled together; 0 uses the engine's default.", least=0)
    frame_batch: int = option(
        0, "Number of frames that are decoded together; 0 uses the engine's default, or what the tuner finds.", least=0
    )
    nfe: int = option(9, "Evaluations of the vector field per window.", least=1)
    clips: int = option(
        1000,
        "Number of 10 s clips that pass through Ray without being rendered; 0 skips the measurement of Ray.",
        least=0,
    )
    requests: str = option(
        "",
        "Folder below s3://. Only count the requests that a rendering job sends to this storage per clip: the bundled "
        "model renders clips of a second there, which are removed again.",
    )
    json: str = option("", "File to write the figures to.")
    markdown: str = option("", "File to write the table to, in Markdown.")
    manifest: str = option(str(DEMO), "Manifest for --plan.")
    rates: str = option("", "For --plan: JSON file of an earlier run, to use its rates and measure nothing.")
    cpus: int = option(0, "CPUs of the cluster to plan for with --plan; 0 plans without a cluster.", least=0)
    gpus: int = option(0, "GPUs of the cluster to plan for with --plan.", least=0)

    @property
    def cores(self) -> int:
        """CPUs that this process may use, or fewer if `threads` says so."""
        return self.threads or len(os.sched_getaffinity(0))

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU. Raises RefusedError if it must be one and PyTorch finds none."""
        if self.device == "cuda" and not torch.cuda.is_available():
            raise RefusedError(
                "device: PyTorch finds no GPU here: install a CUDA build of PyTorch and check nvidia-smi, or set "
                "device=cpu"
            )
        return self.device == "cuda" or (self.device == "auto" and torch.cuda.is_available())


@dataclass
class Outcome:
    """How a section ended."""

    status: str
    """`done`, `failed`, or `skipped` because the time was over."""
    figures: Figures = field(default_factory=dict)
    reason: str = ""
    """Why it is not done."""
    seconds: float = 0.0


@dataclass
class Results:
    """All that a run has found."""

    settings: Figures = field(default_factory=dict)
    sections: dict[str, Outcome] = field(default_factory=dict)

    def figures(self, section: str) -> Figures:
        """Figures of a section; none if it is not done."""
        outcome = self.sections.get(section)
        return outcome.figures if outcome else {}

    def value(self, section: str, name: str) -> float | None:
        """One figure, or None if it was not measured."""
        found = self.figures(section).get(name)
        return None if found is None else float(found)

    def of_stage(self, stage: str, kind: str) -> float | None:
        """The `baseline` or `engine` rate of a stage, or the `psnr` of its frames; None if it was not measured."""
        for outcome in self.sections.values():
            found = outcome.figures.get(kind)
            if isinstance(found, dict) and found.get(stage) is not None:
                return float(found[stage])
        return None

    def encoded(self, more: Figures) -> str:
        """Everything as JSON, with what was derived from it in `more`."""
        sections = {name: asdict(outcome) for name, outcome in self.sections.items()}
        content = {"format": FORMAT, "settings": self.settings, **more, "sections": sections}
        return json.dumps(content, indent=2) + "\n"

    def write(self, path: str, more: Figures) -> None:
        """Write `encoded` to a file."""
        Path(path).write_text(self.encoded(more))
        print(f"written to {path}")

    @classmethod
    def read(cls, path: str) -> "Results":
        """Read what `write` wrote. Raises RefusedError."""
        try:
            return cls.decoded(Path(path).read_bytes())
        except OSError as error:
            raise RefusedError(f"rates: {path} could not be read: {os.strerror(error.errno or 0)}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RefusedError(
                f"rates: {path} was not written by this benchmark: measure again with json=FILE"
            ) from None

    @classmethod
    def decoded(cls, data: bytes) -> "Results":
        """What `encoded` has written. Raises ValueError, KeyError, TypeError or AttributeError for anything else."""
        content = json.loads(data)
        if content["format"] != FORMAT:
            raise ValueError
        sections = {name: Outcome(**outcome) for name, outcome in content["sections"].items()}
        return cls(content["settings"], sections)


def say(text: str) -> None:
    """Print a line of progress at once, also into a file or a pipe."""
    print(text, flush=True, file=sys.stdout)
