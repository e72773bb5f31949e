"""What has become of the videos, stored in the output folder itself.

    clips/<key>.parquet      samples of one video; missing if it has none
    done/<key>.json          the video is done: its fingerprint and a row for each candidate; written last
    tiles/<key>.jpg          thumbnails of some candidates, side by side
    latents/<key>.parquet    the samples for phase 2
    done-latents/<key>.json  the samples for phase 2 are done
    attempts/<key>.<stage>.json   a worker has the video; removed when its attempt ends
    splits.json              speakers who were once held out stay held out

Only a sidecar with the right fingerprint means done. Before a video is prepared again, its sidecar and its latents are
removed, so that a job that dies on the way leaves nothing that looks finished.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipeline.ledger.attempt_log import TRIES, AttemptLog, TooManyDeathsError
from pipeline.ledger.done_store import DONE, DoneStore
from pipeline.storage.objects import remove
from pipeline.storage.set_aside import clear_way
from pipeline.storage.uris import join
from pipeline.training_data.reasons import Dropped
from pipeline.training_data.shards import CLIPS, LATENTS

DONE_LATENTS, TILES = "done-latents", "tiles"

NEEDS = (("key", str), ("fingerprint", str), ("rows", list))
NEEDS_OF_LATENTS = (("key", str), ("fingerprint", str), ("samples", int))
"""Values without which a sidecar is damaged."""

Sidecar = dict[str, Any]
"""`fingerprint` and `rows`; for a video also its key, video, speaker and split."""


@dataclass(frozen=True)
class Places:
    """The files of one output folder. Small enough to be sent to every worker."""

    output: str
    run: str = ""
    """Id of this run. Worker deaths are counted per run, because stopping a run kills all of its workers."""

    def clips(self, key: str) -> str:
        """URI of a video's shard."""
        return join(self.output, CLIPS, f"{key}.parquet")

    def latents(self, key: str) -> str:
        """URI of its shard for phase 2."""
        return join(self.output, LATENTS, f"{key}.parquet")

    def tiles(self, key: str) -> str:
        """URI of its thumbnails."""
        return join(self.output, TILES, f"{key}.jpg")

    # --- Sidecars ----------------------------------------------------------------------------------------------

    def read(self, key: str, folder: str = DONE) -> Sidecar | None:
        """The sidecar of a video; None if it is not done."""
        return self._done(folder).read(key)

    def write(self, key: str, sidecar: Sidecar, folder: str = DONE) -> None:
        """Mark the video as done."""
        DoneStore(self.output, folder).write(key, sidecar)

    def forget(self, key: str) -> None:
        """Mark the video as not done, and remove what was made from its samples."""
        DoneStore(self.output).remove(key)
        self.forget_latents(key)

    def forget_latents(self, key: str) -> None:
        """Mark the video's samples as not encoded."""
        DoneStore(self.output, DONE_LATENTS).remove(key)
        self.clear(self.latents(key))
        remove(self.latents(key))

    def clear(self, *uris: str) -> None:
        """Move aside what is no file where one of ours is to be."""
        for uri in uris:
            clear_way(uri, self.output)

    def each(self, folder: str = DONE) -> Iterator[Sidecar]:
        """Sidecars of all videos, including those of other sources, sorted by key."""
        return self._done(folder).each()

    def _done(self, folder: str) -> DoneStore:
        return DoneStore(self.output, folder, NEEDS if folder == DONE else NEEDS_OF_LATENTS)

    # --- Attempts ----------------------------------------------------------------------------------------------

    def begin(self, key: str, stage: str) -> None:
        """Note that a worker takes the video. Raises Dropped worker_died if too many have died with it in this run."""
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
        """Note that the attempt has ended, successfully or not, and that the worker is alive."""
        self._attempts.end(f"{key}.{stage}")

    @property
    def _attempts(self) -> AttemptLog:
        return AttemptLog(self.output, self.run)
