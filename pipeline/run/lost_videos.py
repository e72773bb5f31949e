"""At the end of a run: the videos are listed once more, and a clip whose video is gone is not done."""

from pipeline.common.disk_collections import DiskDict
from pipeline.common.errors import CODES
from pipeline.ledger.columns import SCHEMA, ClipRow, extended
from pipeline.ledger.done_record import video_name
from pipeline.ledger.table import RowSpool
from pipeline.run.run import Run
from pipeline.storage.objects import NO_FILE
from pipeline.storage.set_aside import set_aside
from pipeline.storage.uris import shown

KEPT = (
    *("clip_id", "row", "fingerprint", "image", "audio", "pose", "pose_source", "language", "speaker", "emotion"),
    *("emotion_source", "emotion_fade", "seed", "nfe", "solver", "a_cfg_scale", "e_cfg_scale", "r_cfg_scale", "crop"),
    *("pose_fade", "frame", "face", "faces", "timecode", "timecode_wanted", "frames_wanted", "on_length"),
    *("audio_stream_wanted",),
    *("consent_ref", "title", "audio_tracks", "preset_wanted", "seconds", "silence"),
)
"""Columns of a row that say what was asked for."""


class LostVideos:
    """Compares rows with one listing of the videos."""

    def __init__(self, run: Run) -> None:
        """Costs nothing if no clip is done."""
        self._run = run
        done = run.tally.statuses["done"] > 0
        self._sizes = DiskDict((name, str(size)) for name, size in run.ledger.videos()) if done else DiskDict()
        self._listed = done

    def take_back(self) -> None:
        """Replace the rows of clips whose videos are gone, and move their rows in done/ aside, so that the next run
        renders them again.
        """
        run = self._run
        if not self._listed or all(self.checked(row) is row for row in run.rows):
            return
        rows = RowSpool()
        for row in run.rows:
            checked = self.checked(row)
            rows.add(checked)
            if checked is not row:
                run.tally.take_back(row)
                run.tally.add(checked)
                run.on_end(checked)
                set_aside(run.ledger.done_uri(row["clip_id"], row["fingerprint"]), run.output)
        run.rows = rows

    def checked(self, row: ClipRow) -> ClipRow:
        """The row itself, or `video_lost` if it is done but its video is not there with its size."""
        if not self._listed or row["status"] != "done" or not row.get("uri"):
            return row
        there, name = self._sizes.get(video_name(row)), video_name(row)
        size = row.get("bytes")
        if there is not None and int(there) > 0 and size in (None, int(there)):
            return row
        found = "is missing" if there is None else "is not a file" if int(there) == NO_FILE else f"has {there} bytes"
        message = (
            f"the clip was rendered, but its video {shown(self._run.ledger.video_uri(name))} {found} at the end of "
            "the run: find out what removes or cuts files in the output, and run the same command again"
        )
        kept = {name: value for name, value in row.items() if name in KEPT or name not in SCHEMA.names}
        error = {"status": CODES["video_lost"][0], "error_code": "video_lost", "error_message": message}
        return extended({}, kept | error)
