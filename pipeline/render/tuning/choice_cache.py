"""Choices that were made on this machine, in a private and sealed folder: workers of one kind share one choice."""

import hashlib
import json
import logging
import math
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout

import models
import pipeline.media.pixel_layout
import pipeline.media.planes
import pipeline.render
from models.fast.compiled import machine_name
from models.fast.private_cache import CONTENT, CacheError, full, is_full, is_sealed, private_folder, seal
from pipeline.render.variants import Choice

logger = logging.getLogger(__name__)

WAIT_SECONDS = 3600.0
"""The longest that a worker waits for the choice of another one."""

DRIVER = Path("/proc/driver/nvidia/version")


@dataclass(frozen=True)
class Tuned:
    """An engine, and what was measured when it was chosen."""

    choice: Choice
    psnr: float | None = None
    """Worst frame of the probe against the plain float32 model, dB; None if nothing was measured."""
    fps: float | None = None
    """Frames per second that were sampled and decoded."""
    eager_seconds: float = 0.0
    """Time for a frame of the eager float32 engine, which says how long a job would take without tuning."""
    budget: float = math.inf
    """Seconds after which the search was ended; infinite if it was not."""


def choice_key(device: torch.device, **settings: object) -> str:
    """SHA-256 of what a choice depends on: device, driver, versions, code, and `settings` with the model's hash."""
    digest = hashlib.sha256()
    driver = DRIVER.read_text() if device.type == "cuda" and DRIVER.exists() else ""
    versions = (torch.__version__, torch.version.cuda, torch.backends.cudnn.version())
    for part in (machine_name(device), driver, *versions, *sorted(settings.items())):
        digest.update(repr(part).encode() + b"\0")
    digest.update(code_hash().encode())
    return digest.hexdigest()[:32]


def code_hash() -> str:
    """SHA-256 of the code that computes frames and that judges engines."""
    digest = hashlib.sha256()
    for module in (models, pipeline.render):
        assert module.__file__ is not None
        folder = Path(module.__file__).parent
        for source in sorted((*folder.rglob("*.py"), *folder.rglob("*.cpp"))):
            digest.update(source.read_bytes())
    for path in (pipeline.media.planes.__file__, pipeline.media.pixel_layout.__file__):
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()


class ChoiceCache:
    """One choice under its key, in a folder that only this user can enter."""

    def __init__(self, folder: Path, key: str) -> None:
        """Raises CacheError if others can write the folder, or if it cannot be made."""
        self._place = private_folder(folder) / key

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Only one worker of a node tunes; the others wait, and take its choice."""
        lock = FileLock(self._place.with_suffix(".lock"), timeout=WAIT_SECONDS)
        try:
            lock.acquire()
        except Timeout as error:
            raise CacheError(
                f"another worker has been choosing for {WAIT_SECONDS / 60:.0f} minutes: if it stands still, end its "
                "process"
            ) from error
        try:
            yield
        finally:
            lock.release()

    def read(self) -> Tuned | None:
        """The choice; None if there is none, or if it is damaged or not what this user wrote."""
        if not self._place.exists():
            return None
        try:
            if is_sealed(self._place):
                values = json.loads((self._place / CONTENT / "choice.json").read_bytes())
                return Tuned(**values | {"choice": Choice.from_values(values["choice"])})
        except (OSError, ValueError, KeyError, TypeError):
            pass
        logger.warning("the cached choice of an engine is damaged: the engine is chosen again")
        return None

    def write(self, tuned: Tuned) -> None:
        """Replace the choice. Raises CacheFullError if the disk is full."""
        values = {**vars(tuned), "choice": tuned.choice.values()}
        try:
            with tempfile.TemporaryDirectory(dir=self._place.parent, prefix="choice.part-") as name:
                made = Path(name) / "made"
                (made / CONTENT).mkdir(parents=True)
                (made / CONTENT / "choice.json").write_text(json.dumps(values))
                seal(made, self._place)
                self.forget()
                made.rename(self._place)
        except OSError as error:
            raise (full(self._place.parent) if is_full(error) else error) from error

    def forget(self) -> None:
        """Remove the choice."""
        if self._place.is_dir() and not self._place.is_symlink():
            shutil.rmtree(self._place)
        else:
            self._place.unlink(missing_ok=True)
