"""Training without Ray: one worker, in this process. On a laptop, in a debugger, and in most tests.

The same work as that of a worker that Ray starts, in the same folders: a run may begin without Ray and go on with it,
and the other way round.
"""

from collections.abc import Callable

import torch

from pipeline.common.redaction import redacted
from pipeline.training.run import TrainingError, TrainJob, run_worker
from pipeline.training.settings import WorkerSettings
from pipeline.training.world import World, set_threads


def check_alone(workers: WorkerSettings) -> None:
    """Raise ValueError where the settings ask for what one worker on this machine cannot be."""
    if workers.number > 1 or workers.least > 1:
        raise ValueError("workers.number: with executor=serial there is one worker; give 1, or executor=ray")
    if workers.gpus > 0 and not torch.cuda.is_available():
        raise ValueError("workers.gpus: this machine has no GPU that PyTorch can use; give 0 or -1")


def fit_alone(job: TrainJob, *, gpu: bool, say: Callable[[str], None]) -> None:
    """Train in this process, from the newest checkpoint of the output. Raises TrainingError.

    `gpu`: on this machine's, where it has one.
    """
    set_threads(job.cpus)
    device = torch.device("cuda" if gpu and torch.cuda.is_available() else "cpu")
    try:
        run_worker(job, World(device=device), say)
    except Exception as error:  # as from a worker of Ray: each library has exceptions of its own
        raise TrainingError(redacted(f"{type(error).__name__}: {error}")) from error
