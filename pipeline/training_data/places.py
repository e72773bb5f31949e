"""What has become of the videos, in the output folder itself.

    clips/<key>.parquet      samples of one video; none where it has none
    done/<key>.json          the video is done: its fingerprint and a row for each candidate; written last
    tiles/<key>.jpg          small pictures of some candidates, side by side
    latents/<key>.parquet    the samples for phase 2
    done-latents/<key>.json  the same is done
    attempts/<key>.<stage>.json   a worker has the video; removed when that has an end
    splits.json              who was once held out stays so

Only a sidecar with the right fingerprint means done. A video that is prepared again first loses its sidecar and its
latents, so that a job that dies on the way leaves nothing that looks finished.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.ledger.attempt_log import TRIES, AttemptLog, TooManyDeathsError
from pipeline.ledger.done_store import DONE, DoneStore
from pipeline.storage.objects import join, remove
from pipeline.training_data.reasons import Dropped
from pipeline.training_data.shards import CLIPS, LATENTS

DONE_LATENTS, TILES = "done-latents", "tiles"

Sidecar = dict[str, Any]
"""`fingerprint` and `rows`, and of a video also what it is: key, video, speaker, split."""


@dataclass(frozen=True)
class Places:
    """Of one output folder. Small enough to travel to every worker."""

    output: str
    run: str = ""
    """Of this run of the job: deaths of workers are counted within a run, as a run that was killed killed them all."""

    def clips(self, key: str) -> str:
        """Shard of a video."""
        return join(self.output, CLIPS, f"{key}.parquet")

    def latents(self, key: str) -> str:
        """Its shard for phase 2."""
        return join(self.output, LATENTS, f"{key}.parquet")

    def tiles(self, key: str) -> str:
        """Its pictures."""
        return join(self.output, TILES, f"{key}.jpg")

    # --- Sidecars ----------------------------------------------------------------------------------------------

    def read(self, key: str, folder: str = DONE) -> Sidecar | None:
        """What is known of a video; None where it is not done."""
        return DoneStore(self.output, folder).read(key)

    def write(self, key: str, sidecar: Sidecar, folder: str = DONE) -> None:
        """The video is done."""
        DoneStore(self.output, folder).write(key, sidecar)

    def forget(self, key: str) -> None:
        """The video is not done any more, nor what was made of its samples."""
        DoneStore(self.output).remove(key)
        self.forget_latents(key)

    def forget_latents(self, key: str) -> None:
        """The video's samples are not encoded any more."""
        DoneStore(self.output, DONE_LATENTS).remove(key)
        remove(self.latents(key))

    def each(self, folder: str = DONE) -> Iterator[Sidecar]:
        """Sidecars of all videos, of other sources too, sorted by key."""
        return DoneStore(self.output, folder).each()

    # --- Attempts ----------------------------------------------------------------------------------------------

    def begin(self, key: str, stage: str) -> None:
        """A worker takes the video. Raises Dropped worker_died where too many have died with it in this run."""
        name = f"{key}.{stage}"
        try:
            self._attempts.begin(name, self._attempts.deaths(name))
        except TooManyDeathsError:
            raise Dropped(
                "worker_died",
                f"the worker died {TRIES} times while it had this video: check the worker's log and the file; "
                "retry_died=true tries it again",
            ) from None

    def end(self, key: str, stage: str) -> None:
        """The attempt has an end, good or bad, and the worker lives."""
        self._attempts.end(f"{key}.{stage}")

    @property
    def _attempts(self) -> AttemptLog:
        return AttemptLog(self.output, self.run)
