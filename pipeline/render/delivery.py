"""Delivery of a clip, from the encoder's file to the committed video and its row."""

import hashlib
import tempfile
import time
from pathlib import Path
from typing import Any

from pipeline.ledger.clip_row import clip_row, emotion_text, emotion_weights, note_columns
from pipeline.ledger.columns import ClipRow, extended
from pipeline.ledger.ledger import Ledger
from pipeline.media.c2pa import open_signer
from pipeline.media.encoders import check_encoder
from pipeline.media.mp4 import VideoWriter, verify_video
from pipeline.media.settings import ProvenanceSettings, VideoSettings, parse_fps
from pipeline.media.xmp import mark, tags_of_mark
from pipeline.render.clip_job import ClipJob


class Deliverer:
    """Encodes, marks, signs, verifies and stores the videos of a worker.

    Several threads may use it, with one clip each.
    """

    def __init__(
        self,
        ledger: Ledger,
        video: VideoSettings,
        provenance: ProvenanceSettings | None,
        *,
        side: int,
        columns: ClipRow,
    ) -> None:
        """`side` is the side length of the frames, px.

        `columns` are added to every row, with the model's name and hash.
        """
        # An encoder that does not work here fails now, and not with the first clip, and so does a certificate.
        check_encoder(video)
        self._signer = open_signer(provenance, video.format.container)
        self._ledger, self._video, self._side, self._columns = ledger, video, side, columns
        self._fps = parse_fps(video.fps)
        self._model = {"model": columns["model"], "model_hash": columns["model_hash"]}
        maker = f"Floatcast, model {columns['model']} {columns['model_hash'][:12]}"
        self._tags = {"comment": f"AI-generated talking portrait; {maker}"}
        self._scratch = tempfile.TemporaryDirectory(prefix="floatcast-", ignore_cleanup_errors=True)

    def close(self) -> None:
        """Remove temporary files."""
        self._scratch.cleanup()

    def open(self, job: ClipJob) -> VideoWriter:
        """Start an encoder for the frames of a clip."""
        job.path = Path(self._scratch.name) / f"{id(job)}{self._video.format.container.suffix}"
        clip_id, container = job.item.clip.clip_id, self._video.format.container
        tags = self._tags | {"title": clip_id} | tags_of_mark(container, clip_id=clip_id, **self._model)
        job.writer = VideoWriter(job.path, size=self._side, settings=self._video, sound=job.item.sound, tags=tags)
        return job.writer

    def finish(self, job: ClipJob) -> ClipRow:
        """Wait for the encoder, then mark, sign, verify and store the file. Only then is the clip done."""
        start = time.perf_counter()
        item, writer, path = job.item, job.writer, job.path
        assert writer is not None
        assert path is not None
        writer.close()
        made = {"clip_id": item.clip.clip_id, **self._model}
        mark(path, **made)
        if self._signer is not None:
            self._signer.sign(
                path, **made
            )  # this must be the last change of the file: any later one would invalidate the signature
        delivered = verify_video(path, frames=item.frames, fps=self._fps, form=self._video.format)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        done: dict[str, Any] = {
            "status": "done",
            "worker_attempt": job.worker_attempt,
            "emotion": emotion_text(emotion_weights(item.emotion)),
            "provenance": self._video.format.container.marked + ("" if self._signer is None else "+c2pa"),
            "preset": self._video.preset,
            "sha256": sha256,
            "bytes": path.stat().st_size,
            "width": self._side,
            "height": self._side,
            "frames": delivered.frames,
            "fps": float(self._fps),
            "duration": float(delivered.video_seconds),
            "audio_duration": item.audio_seconds,
            "audio_stream": item.audio_stream,
            "faces_found": item.faces_found,
            "face_box": None if item.face_box is None else [round(edge, 1) for edge in item.face_box],
            "portrait_turn": item.portrait_turn,
            "image_frame": item.image_frame,
            **note_columns(item.notes),
            **self._columns,
        }
        job.spend("finish", start)
        times = {f"{step}_seconds": round(spent, 3) for step, spent in (item.seconds | job.seconds).items()}
        return self._ledger.commit(path, item.clip, extended(clip_row(item.clip), done | times))
