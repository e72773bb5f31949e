"""Delivery of a clip, from the encoder's file to the committed video and its row."""

import hashlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from pipeline.face.networks import Box
from pipeline.ledger.clip_row import clip_row, emotion_text, emotion_weights, note_columns
from pipeline.ledger.columns import ClipRow, extended
from pipeline.ledger.ledger import Ledger
from pipeline.manifest.emotion_spans import weights_or_spans
from pipeline.media.c2pa import open_signer
from pipeline.media.encoders import check_encoder, check_preset
from pipeline.media.mp4 import VideoWriter, verify_video
from pipeline.media.presets import COPY
from pipeline.media.settings import ProvenanceSettings, VideoSettings, parse_fps
from pipeline.media.timecode import parse_timecode
from pipeline.media.xmp import comment, mark, tags_of_mark
from pipeline.render.clip_job import ClipJob
from pipeline.render.feature_stage import ClipFeatures


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
        columns: ClipRow,
    ) -> None:
        """`columns` are added to every row, with the model's name and hash."""
        # An encoder that does not work here fails now, and not with the first clip, and so does a certificate.
        check_encoder(video)
        self._signer = open_signer(provenance, video.format.container)
        self._ledger, self._video, self._columns = ledger, video, columns
        self._fps = parse_fps(video.fps)
        self._model = {"model": columns["model"], "model_hash": columns["model_hash"]}
        self._tags = comment(columns["model"], columns["model_hash"])
        self._scratch = tempfile.TemporaryDirectory(prefix="floatcast-", ignore_cleanup_errors=True)

    def close(self) -> None:
        """Remove temporary files."""
        self._scratch.cleanup()

    def video_of(self, job: ClipJob) -> VideoSettings:
        """The settings of a clip's file, whose row may name another preset than the job.

        Raises ClipError preset_unavailable.
        """
        preset = job.item.clip.preset
        check_preset(self._video, preset)
        return self._video.with_preset(preset)

    def open(self, job: ClipJob) -> VideoWriter:
        """Start an encoder for the frames of a clip."""
        video, clip = self.video_of(job), job.item.clip
        container = video.format.container
        job.path = Path(self._scratch.name) / f"{id(job)}{container.suffix}"
        tags = self._tags | {"title": clip.named} | tags_of_mark(container, **self._made(job.item))
        if clip.timecode is not None:
            tags["timecode"] = clip.timecode
        whole = None if job.composer is None else job.composer.whole
        job.writer = VideoWriter(
            job.path,
            size=job.size,
            settings=video,
            sound=job.item.sound,
            tags=tags,
            language=clip.language,
            tracks=job.item.tracks,
            whole=whole,
        )
        return job.writer

    def finish(self, job: ClipJob) -> ClipRow:
        """Wait for the encoder, then mark, sign, verify and store the file. Only then is the clip done."""
        start = time.perf_counter()
        item, writer, path, video = job.item, job.writer, job.path, self.video_of(job)
        assert writer is not None
        assert path is not None
        writer.close()
        made = self._made(item)
        mark(path, **made)
        if self._signer is not None:
            self._signer.sign(
                path, **made
            )  # this must be the last change of the file: any later one would invalidate the signature
        delivered = verify_video(
            path,
            frames=item.frames,
            fps=self._fps,
            form=video.format,
            timecode=item.clip.timecode,
            language=item.clip.language,
            tracks=item.tracks,
            copied=item.sound if video.format.sound == COPY else None,
            title=item.clip.named,
        )
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        done: dict[str, Any] = {
            "status": "done",
            "worker_attempt": job.worker_attempt,
            "emotion": None if item.others else emotion_text(item.clip, emotion_weights(item.emotion)),
            "provenance": video.format.container.marked + ("" if self._signer is None else "+c2pa"),
            "preset": video.preset,
            "timecode_after": self._timecode_after(item),
            "programme_frame": None if item.continued is None else item.continued.after.frames - item.frames,
            "sha256": sha256,
            "bytes": path.stat().st_size,
            "width": job.size[0],
            "height": job.size[1],
            **_square_columns(item),
            "frames": delivered.frames,
            "fps": float(self._fps),
            "duration": float(delivered.video_seconds),
            "audio_duration": item.audio_seconds,
            "audio_stream": item.audio_stream,
            "faces_found": item.faces_found,
            "face_box": None if item.face_box is None or item.others else _rounded(item.face_box),
            "faces_animated": faces_animated(item),
            "portrait_turn": item.portrait_turn,
            "image_frame": item.image_frame,
            **note_columns(item.notes),
            **self._columns,
            **({"engine": job.engine} if job.engine else {}),
        }
        job.spend("finish", start)
        if job.ending is not None:
            self._ledger.write_motion(item.clip.clip_id, item.clip.fingerprint, job.ending.packed())
        times = {f"{step}_seconds": round(spent, 3) for step, spent in (item.seconds | job.seconds).items()}
        return self._ledger.commit(path, item.clip, extended(clip_row(item.clip), done | times))

    def _made(self, item: ClipFeatures) -> dict[str, Any]:
        """What the marks of a file say about it."""
        return {"clip_id": item.clip.clip_id, **self._model, "source_sha256": item.image_sha256}

    def _timecode_after(self, item: ClipFeatures) -> str | None:
        start = item.clip.timecode
        return None if start is None else str(parse_timecode(start, self._fps).after(item.frames))


def _square_columns(item: ClipFeatures) -> dict[str, Any]:
    """Where the animated square is in a full frame; nothing for a clip that is the square."""
    if item.picture is None:
        return {}
    side = max(square[2] for square in item.picture.squares)
    return {
        "square": None if item.others else [round(value, 2) for value in item.picture.square],
        "upscale": round(side / len(item.portrait), 3),
        "source_sha256": item.image_sha256,
    }


def faces_animated(item: ClipFeatures) -> str | None:
    """JSON of how each of several faces was rendered, for its row; None for a clip of one face."""
    if not item.clip.faces or item.picture is None:
        return None
    found = []
    for face, square in zip(item.faces, item.picture.squares, strict=True):
        part = face.part
        found.append(
            {
                "box": None if face.box is None else _rounded(face.box),
                "square": [round(value, 2) for value in square],
                "upscale": round(square[2] / len(face.portrait), 3),
                "emotion": weights_or_spans(part.spans, emotion_weights(face.emotion)),
                "seed": part.seed,
                "e_cfg_scale": part.e_cfg_scale,
            }
        )
    return json.dumps(found)


def _rounded(box: Box) -> list[float]:
    return [round(edge, 1) for edge in box]
