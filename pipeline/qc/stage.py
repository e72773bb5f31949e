"""The stage of quality control: status rows of delivered clips -> the same rows with their metrics.

    qc/<clip_id>.<fingerprint>.json   metrics, curves of mouth opening and audio level, labels of the contact sheet
    qc/<clip_id>.<fingerprint>.jpg    the contact sheet, with the same JSON as a comment

Metrics are facts about a file and are kept. Verdicts are derived from them each time, so that a new threshold does not
require decoding.
"""

import base64
import hashlib
import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.common.attempts import PutOff
from pipeline.common.child import KILLED, MOST_MINUTES, in_child
from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.common.redaction import redacted
from pipeline.common.stage import Part, Resources, Stage
from pipeline.face.choice import parse_choice
from pipeline.face.full_frame import FrameSize, FullFrame, full_frame
from pipeline.face.networks import Box
from pipeline.ledger.columns import ClipRow, extended
from pipeline.ledger.done_record import has_metrics
from pipeline.ledger.ledger import Ledger
from pipeline.manifest.delivery import written_tracks
from pipeline.measure.dlib_face import SHA256, weights_file
from pipeline.measure.video_pass import LARGEST_SQUARE, Delivery
from pipeline.media.budget import ON_LENGTH as COUNTED
from pipeline.media.jpeg_comment import with_comment
from pipeline.media.settings import VideoSettings, parse_fps
from pipeline.media.slot import ROUNDING, Slot
from pipeline.qc.faces import feelings_of, parts_to_measure, voices_of
from pipeline.qc.judge import check_networks, inspected
from pipeline.qc.settings import QcSettings
from pipeline.render.clip_inputs import frame_size
from pipeline.render.face_picture import SMALL, face_picture
from pipeline.render.portrait import recropped, reload_upright
from pipeline.storage.explained import explained
from pipeline.storage.objects import fetch_file, filesystem
from pipeline.storage.pinned import keep_pinned, read_pinned
from pipeline.storage.untrusted import RecentInputs, read_input
from pipeline.storage.uris import is_local

logger = logging.getLogger(__name__)

NETWORKS = ("identity_model", "syncnet")
"""Settings of the user's networks."""

VERSION = 4
"""Version of the measurements; raised if a metric of the same file changes, so that it is measured again."""


def qc_version(settings: QcSettings) -> str:
    """Version of the measurements and of the user's networks; files measured with another version are measured again.

    Raises SettingError for a network that does not exist, and RefusedError if an extra is not installed.
    """
    given = (read_pinned(key, uri) for key in NETWORKS if (uri := getattr(settings, key)))
    hashes = [hashlib.sha256(data).hexdigest() for data in given]
    if settings.measures_dlib:
        weights_file()
        hashes.append(SHA256)
    return f"{VERSION}" + "".join(f"+{one[:8]}" for one in hashes)


class QcStage(Stage):
    """Judges delivered files. Child processes hold the face models and the user's networks, and decode."""

    name = "qc"
    _judged: ClipRow | None = None
    """The clip in work."""

    def __init__(
        self,
        settings: QcSettings,
        limits: Limits,
        video: VideoSettings,
        ledger: Ledger,
        window_seconds: float,
        clip_minutes: float = MOST_MINUTES,
    ) -> None:
        self.resources = Resources(settings.num_cpus)
        self._settings, self._limits, self._ledger, self._window_seconds = settings, limits, ledger, window_seconds
        self._fps, self._video_settings, self._clip_minutes = parse_fps(video.fps), video, clip_minutes

    def setup(self) -> None:
        """Load the networks. Raises SettingError for one that does not exist, and RefusedError for a missing extra."""
        self._started = time.time()
        self._portraits = RecentInputs(self._limits)
        self._version = qc_version(self._settings)
        self._folder = tempfile.TemporaryDirectory(prefix="floatcast-")
        folder, settings = Path(self._folder.name), self._settings
        self._identity, self._syncnet = (keep_pinned(key, getattr(settings, key), folder) for key in NETWORKS)
        self._dlib = settings.measures_dlib
        if self._identity or self._syncnet:
            in_child(check_networks, self._identity, self._syncnet)

    def close(self) -> None:
        """Remove the copies of the networks."""
        self._folder.cleanup()

    def process(self, rows: Sequence[ClipRow | PutOff]) -> Iterator[ClipRow | PutOff]:
        """Yield the rows, with metrics if there is a video; `qc_notes` says what could not be measured."""
        for row in rows:
            yield row if isinstance(row, PutOff) or row["status"] != "done" else self._row(row)

    @property
    def under_way(self) -> Mapping[str, Part]:
        """The clip in work, whose frames are all rendered. May be called from any thread."""
        row = self._judged
        return {} if row is None else {row["clip_id"]: Part(self.name, row["frames"], row["frames"], row["row"])}

    def _row(self, row: ClipRow) -> ClipRow:
        self._judged = row
        try:
            known = None if self._is_new(row) else self._ledger.read_qc(row["clip_id"], row["fingerprint"])
            if known is not None and known.get("version") == self._version:
                return with_metrics(row, known)
            return with_metrics(row, self._inspect(row))
        except Exception as error:  # a bug or a storage error must not affect a clip that is delivered
            logger.error("quality control of clip %s", row["clip_id"], exc_info=error)
            text = redacted(f"not measured: {explained(error)}; the same command tries again")
            return extended(row, {"qc_version": "failed", "qc_notes": [text]})
        finally:
            self._judged = None

    def _is_new(self, row: ClipRow) -> bool:
        """Whether the clip was done after this worker started, so that there is hardly a measurement to look for.

        If there is one, because another worker died just after it had stored it, the clip is measured again.
        """
        return row.get("committed", 0.0) > self._started

    def _inspect(self, row: ClipRow) -> dict[str, Any]:
        start = time.perf_counter()
        notes: list[str] = []
        frames, on_length = row.get("frames_wanted"), row.get("on_length")
        slot = Slot(frames, self._fps, on_length) if frames and on_length else None
        needed = int(-(-round(row["audio_duration"] * 1e6) * self._fps // 10**6))
        if slot is None and row.get("programme"):
            slot = Slot(row["frames"], self._fps, COUNTED if row["frames"] <= needed + ROUNDING else "pad")
        delivery: dict[str, Any] = {
            "fps": self._fps,
            "frames": slot.frames_for(needed) if slot else needed,
            "slot": slot,
            "heard": row["audio_duration"] if slot else float("inf"),
            "size": (row["width"], row["height"]),
            "format": self._settings_of(row).format,
            "tracks": tuple(track.tags for track in written_tracks(row.get("audio_tracks"))),
            "language": row.get("language"),
            "audio_stream": row.get("audio_stream_wanted"),
            "window_seconds": self._window_seconds,
        }
        parts: list[dict[str, Any]] = []
        if row.get("faces_animated"):
            image = self._input(lambda: self._portraits.read(row["image"]), notes)
            parts = parts_to_measure(
                row, image, lambda uri: self._sound(uri, notes), self._limits, frame_size(self._settings_of(row))
            )
            delivery["voices"] = voices_of(row, parts)
        else:
            portrait, full = self._portrait(row, notes)
            delivery |= {"portrait": portrait, "full": full, "upscale": row.get("upscale")}
            delivery["feelings"] = feelings_of(row)
            if (audio := row.get("audio")) is not None:  # of a clip that is not without speech
                delivery["source"] = self._sound(audio, notes)
        faces = self._faces(row)
        with self._video(row["uri"]) as path:
            whole = Delivery(path=path, **delivery)
            whole = replace(whole, faces=tuple(replace(whole, voices=(), **part) for part in parts))
            try:
                dlib = self._dlib and row.get("model_trained", True)  # nobody knows the face of an untrained model
                found = in_child(inspected, whole, self._identity, self._syncnet, dlib, minutes=self._clip_minutes)
            except ClipError as error:
                if error.code in KILLED:
                    raise
                notes.append("the delivered file cannot be decoded: render the clip again")
                result = {"version": self._version, "figures": {"qc_frames_missing": delivery["frames"]}}
                return result | {"notes": notes, "seconds": time.perf_counter() - start}
        speaks = row.get("audio") is not None or bool(parts)
        expected = {} if speaks else {"qc_silence_seconds": None}
        known = {
            "version": self._version,
            "figures": found.metrics | expected,
            "notes": notes + found.notes,
            "curves": found.curves,
            "sheet_labels": found.labels,
            "sheet_tile": found.tile,
            **({} if found.by_face is None else {"by_face": found.by_face}),
            "faces": None if faces is None else base64.b64encode(faces).decode(),
            "seconds": round(time.perf_counter() - start, 3),
        }
        data = json.dumps(known).encode()
        sheet = None if found.sheet is None else with_comment(found.sheet, data)  # one request of the report for both
        self._ledger.write_qc(row["clip_id"], row["fingerprint"], data, sheet)
        return known

    def _sound(self, uri: str, notes: list[str]) -> bytes | None:
        return self._input(lambda: read_input(uri, self._limits), notes)

    def _settings_of(self, row: ClipRow) -> VideoSettings:
        return self._video_settings.with_preset(row.get("preset_wanted"))

    def _input(self, read: Callable[[], bytes], notes: list[str]) -> bytes | None:
        try:
            return read()
        except ClipError as error:
            notes.append(f"the source could not be read again, so it is not compared: {error.message}")
            return None

    def _portrait(self, row: ClipRow, notes: list[str]) -> tuple[np.ndarray | None, FullFrame | None]:
        """The square, and the whole picture if that was delivered."""
        data = self._input(lambda: self._portraits.read(row["image"]), notes)
        if data is None:
            return None, None
        box = row["face_box"]
        full = row.get("frame") == "full"
        return in_child(
            _reloaded,
            data,
            self._limits,
            min(LARGEST_SQUARE, round(row["square"][2])) if full else row["width"],
            None if box is None else (box[0], box[1], box[2], box[3]),
            row.get("portrait_turn"),  # earlier versions turned no portrait, and took the first frame
            row.get("image_frame"),
            frame_size(self._settings_of(row)) if full else None,
        )

    def _faces(self, row: ClipRow) -> bytes | None:
        """A small picture of the numbered faces of the image, if it has several (JPEG)."""
        if (row.get("faces_found") or 0) < 2:
            return None
        try:
            data = self._portraits.read(row["image"])
            asked = [face["face"] for face in json.loads(row.get("faces") or "[]")] or [row.get("face") or "largest"]
            choices = list(map(parse_choice, asked))
            return in_child(face_picture, data, row["image"], self._limits, choices, SMALL)
        except ClipError as error:
            if error.code in KILLED:
                raise
            return None  # that the image cannot be read again is said where it is compared

    @contextmanager
    def _video(self, uri: str) -> Iterator[Path]:
        if is_local(uri):
            yield Path(filesystem(uri)[1])
            return
        with tempfile.TemporaryDirectory(prefix="floatcast-") as folder:
            local = Path(folder) / f"clip{Path(uri).suffix}"
            fetch_file(uri, local)
            yield local


def _reloaded(
    data: bytes, limits: Limits, side: int, box: Box | None, turn: int | None, frame: int | None, size: FrameSize | None
) -> tuple[np.ndarray, FullFrame | None]:
    """In a child process: the portrait of a clip again, and its full frame in this size."""
    image = reload_upright(data, limits, turn, frame)
    return recropped(image, box, side), None if size is None else full_frame(image, box, size)


def with_metrics(row: ClipRow, known: Mapping[str, Any]) -> ClipRow:
    """A row with the values that `Ledger.read_qc` returns; without them if they are not complete."""
    if not has_metrics(known):
        return row
    measured = {"qc_version": known["version"], "qc_notes": known["notes"], "qc_seconds": known["seconds"]}
    if by_face := known.get("by_face"):
        measured["qc_faces"] = json.dumps(by_face)
    return extended(row, known["figures"] | measured)
