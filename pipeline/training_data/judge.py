"""What is measured of a candidate, and the reason for which it is dropped, if any."""

from typing import Any

import numpy as np

from models import MOTION_FPS
from pipeline.measure.loudness import levels
from pipeline.training_data.candidates import Candidate, least_frames
from pipeline.training_data.offset import believable, lip_offset
from pipeline.training_data.settings import ClipSettings
from pipeline.training_data.sound import Sound
from pipeline.training_data.track import BOX, MOUTH, POSE

CUT_OFF = 0.05
"""A face is cut off if more than this share of its size is outside the frame."""
WANDERS = 1.5
"""A crop may be this many times larger than that of a head that does not move."""
ROOM = 1.1
"""Minimum side of the crop, relative to the square that the face covers over all frames."""
Metrics = dict[str, Any]


def crop_square_of(boxes: np.ndarray, scale: float) -> tuple[float, float, float, float]:
    """One square (left, top, right, bottom) for the faces of all frames (T,4), around the centre of what they cover
    together.

    Its side is `scale` times the face size (the median of the longer sides), as in rendering, or more if the head moves
    farther than that.
    """
    low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    side = max(scale * face_size(boxes), ROOM * float((high - low).max()))
    x, y = ((low + high) / 2).tolist()
    return x - side / 2, y - side / 2, x + side / 2, y + side / 2


def face_size(boxes: np.ndarray) -> float:
    """Median of the longer sides of boxes (T,4)."""
    return float(np.median((boxes[:, 2:] - boxes[:, :2]).max(1)))


def judge(candidate: Candidate, sound: Sound, settings: ClipSettings) -> tuple[str, str, Metrics]:
    """(code of REASONS or an empty text, what was found, metrics): the first reason that applies, from the file to the
    face.
    """
    metrics: Metrics = {
        "source_fps": round(candidate.pictures / candidate.frames * MOTION_FPS, 2),
        "av_method": None,
        "av_offset_ms": None,
        "av_confidence": None,
    }
    seconds = candidate.frames / MOTION_FPS
    short = f"{seconds:.2f} s, less than clips.min_seconds = {settings.min_seconds:g}"
    if candidate.shot_frames < least_frames(settings):
        return "too_short", f"the shot lasts {short}", metrics
    if candidate.faces is None:
        if candidate.shot_has_face:
            return "face_lost", f"{seconds:.2f} s without the face", metrics
        return "no_face", f"{seconds:.2f} s without a face", metrics
    metrics |= _of_face(candidate, settings)
    if not candidate.heard:
        return "no_audio", f"there is no audio for {seconds:.2f} s: {sound.describe()}", metrics
    if candidate.frames < least_frames(settings):
        return "too_short", f"the face is visible, and there is audio, for {short}", metrics
    code, found = _face_reason(candidate, metrics, settings)
    if code:
        return code, found, metrics
    return *_sound_reason(candidate, sound, metrics, settings), metrics


def _of_face(candidate: Candidate, settings: ClipSettings) -> Metrics:
    assert candidate.faces is not None
    boxes, poses = candidate.faces[:, BOX], candidate.faces[:, POSE]
    left, top, right, bottom = crop_square_of(boxes, settings.scale)
    blurs = [look.blur for look in candidate.looks if look.blur is not None]
    outside = np.concatenate([-boxes[:, :2], boxes[:, 2:] - (candidate.width, candidate.height)], axis=1).max(1)
    size = face_size(boxes)
    return {
        "crop_box": [round(edge, 2) for edge in (left, top, right, bottom)],
        "face_px": round(size, 1),
        "face_wanders": round((right - left) / (settings.scale * size), 3),
        "face_outside": round(max(0.0, float(np.percentile(outside, 98))) / size, 3),
        "yaw_deg": round(float(np.degrees(np.percentile(np.abs(poses[:, 0]), 98))), 1),
        "blur": round(float(np.median(blurs)), 2) if blurs else None,
    }


def _face_reason(candidate: Candidate, metrics: Metrics, settings: ClipSettings) -> tuple[str, str]:
    if any(look.others for look in candidate.looks):
        return (
            "several_faces",
            f"a second face has at least clips.other_face = {settings.other_face:g} of its size",
        )
    if metrics["face_px"] < settings.min_face:
        return "face_too_small", f"{metrics['face_px']:.0f} px, less than clips.min_face = {settings.min_face}"
    if metrics["face_outside"] > CUT_OFF:
        return "face_cut_off", f"{metrics['face_outside']:.0%} of the face is outside the frame"
    if metrics["face_wanders"] > WANDERS:
        return "moves_too_far", f"the crop would be {metrics['face_wanders']:.1f} times as large as for a still head"
    if metrics["yaw_deg"] > settings.max_yaw:
        return "yaw_too_large", f"{metrics['yaw_deg']:.0f} degrees, more than clips.max_yaw = {settings.max_yaw:g}"
    if metrics["source_fps"] < settings.min_fps:
        return (
            "few_frames",
            f"{metrics['source_fps']:.1f} frames per second, less than clips.min_fps = {settings.min_fps:g}",
        )
    if settings.max_blur and metrics["blur"] is not None and metrics["blur"] > settings.max_blur:
        return "blurred", f"edges are {metrics['blur']:.1f} px wide, more than clips.max_blur = {settings.max_blur:g}"
    return "", ""


def _sound_reason(candidate: Candidate, sound: Sound, metrics: Metrics, settings: ClipSettings) -> tuple[str, str]:
    level = levels(sound.part(candidate.first, candidate.last), MOTION_FPS, candidate.frames)
    metrics["level_db"] = round(float(level.max()), 1)
    if metrics["level_db"] < settings.silence_db:
        return "silent", f"{metrics['level_db']:.0f} dBFS, below clips.silence_db = {settings.silence_db:g}"
    if settings.max_av_offset_ms and not settings.syncnet:
        assert candidate.faces is not None
        offset, confidence = lip_offset(candidate.faces[:, MOUTH], level)
        least = believable(settings.min_av_confidence, candidate.frames)
        return offset_reason("lips", offset, confidence, least, metrics, settings)
    return "", ""


def offset_reason(
    method: str, offset: float | None, confidence: float, least: float, metrics: Metrics, settings: ClipSettings
) -> tuple[str, str]:
    """Record an offset (ms) if it can be trusted, and return the reason to drop the sample if it is too large."""
    metrics["av_confidence"] = round(confidence, 3)
    if offset is None or confidence < least:
        return "", ""
    metrics |= {"av_method": method, "av_offset_ms": round(offset, 1)}
    if abs(offset) > settings.max_av_offset_ms:
        late = "behind" if offset > 0 else "ahead of"
        return (
            "av_offset_too_large",
            f"the lips are {abs(offset):.0f} ms {late} the audio, more than clips.max_av_offset_ms = "
            f"{settings.max_av_offset_ms:g}",
        )
    return "", ""
