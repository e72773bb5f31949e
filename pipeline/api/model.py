"""A model step by step, for notebooks: portrait, speech, motion, frames, file."""

import io
import itertools
import logging
import os
import wave as wave_file
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models import EMOTIONS, MOTION_FPS, SAMPLE_RATE, ModelFolder, Portrait, SpeechWindow, load_float
from models.pixels import to_images, to_tensor
from models.sampling import default_nfe
from pipeline.common.errors import RefusedError
from pipeline.common.limits import Limits
from pipeline.face.choice import parse_choice
from pipeline.face.detector import FaceDetector
from pipeline.manifest.emotion_spans import emotions_of, vector_of
from pipeline.manifest.settings import LONGEST_FADE
from pipeline.manifest.silence import silence_of
from pipeline.manifest.spans import check_length
from pipeline.media.audio import AudioTrack, load_audio
from pipeline.media.mp4 import verify_video, write_video
from pipeline.media.pixel_layout import PixelLayout
from pipeline.media.planes import to_planes
from pipeline.media.presets import MP4
from pipeline.media.settings import VideoSettings, parse_fps
from pipeline.media.xmp import mark
from pipeline.render.clip_inputs import fit_to_frames
from pipeline.render.emotion_track import EmotionTrack, emotion_track
from pipeline.render.mouth_probe import resting_mouth
from pipeline.render.portrait import find_portrait, load_portrait
from pipeline.render.silence_track import muted, pauses_of, rest_track
from pipeline.storage.model_cache import POCKET, checked_model
from pipeline.storage.untrusted import read_input

logger = logging.getLogger(__name__)

BATCH = 16
"""Number of frames that are decoded or encoded at a time."""


@dataclass(frozen=True, eq=False)
class Speech:
    """What the model gets from an audio file."""

    content: np.ndarray
    """w_a (T,D) float32 at 25 per second."""
    emotion: np.ndarray
    """w_e (7,) float32 in the order of `models.EMOTIONS`; zeros for a model that does not predict emotions from
    speech.
    """
    rest: np.ndarray | None = None
    """How far the mouth rests in each frame (T,) float32 from 0 to 1; None if pauses are left to the model."""


class Model:
    """A model on one device. It gives the same frames as a job with the same seed and settings."""

    def __init__(self, folder: ModelFolder, device: str) -> None:
        from models.encoders import load_speech_encoders  # takes seconds because of transformers

        self.folder, self.device = folder, device
        self._float = load_float(folder).to(device).eval()
        self._encoders = load_speech_encoders(folder, device, torch.float32)
        self._detector = FaceDetector()

    @property
    def size(self) -> int:
        """Side length of its frames, px."""
        return self.folder.config.image_size

    def encode_portrait(
        self, image: str | os.PathLike[str] | np.ndarray, crop: str = "auto", face: Any = "largest"
    ) -> Portrait:
        """An image -> its identity, motion and features.

        `image` is the path or URI of a PNG, JPEG or WebP file, or RGB (H,W,3) uint8. With `crop` auto the
        faces are detected, and the image is turned if the largest is not upright; `face` says which one is meant, as in
        a manifest: largest, only, a number from the left, (x, y) or (left, top, right, bottom) in pixels. With `crop`
        none a square image is used as it is. What was noticed about the image is logged as a warning. Raises ClipError,
        and RefusedError for a `face` that cannot be.
        """
        try:
            choice = parse_choice(face)
        except ValueError as error:
            raise RefusedError(f"face: {error}") from None
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise RefusedError(f"image must be RGB (H,W,3) uint8, got {image.dtype} {image.shape}")
            found = find_portrait(image, "of the call", crop, Limits(), self._detector, self.size, choice)
        else:
            name, limits = os.fspath(image), Limits()
            found = load_portrait(
                lambda: read_input(name, limits), name, crop, limits, self._detector, self.size, choice
            )
        for note in found.notes:
            logger.warning(note.message)
        with torch.no_grad():
            return self._float.encode_portrait(to_tensor(found.pixels, self.device))

    def speech_features(
        self, sound: str | os.PathLike[str] | np.ndarray, silence: str | Sequence[Mapping[str, Any]] = "model"
    ) -> Speech:
        """Audio -> speech features and predicted emotion.

        `sound` is the path or URI of an audio file, or mono samples (n,) float32 in [-1,1] at 16 kHz. `silence` says
        what the mouth does in pauses, as in a manifest: model, closed, idle, or a list of pauses. Raises ClipError, and
        RefusedError for a `silence` that cannot be.
        """
        track = _track(sound)
        wave = fit_to_frames(track.wave, frames := track.frames(Fraction(MOTION_FPS)))
        try:
            wanted = silence_of(silence if isinstance(silence, str) else list(silence), "model")
        except ValueError as error:
            raise RefusedError(f"silence: {error}") from None
        check_length(wanted.spans, track.seconds, frames, "silence")
        resting, quiet = pauses_of(wanted, wave)
        samples = torch.from_numpy(muted(wave, quiet))[None].to(self.device)
        window = SpeechWindow()
        content = self._encoders.speech(samples, window)[0].cpu().numpy()
        emotion = np.zeros(len(EMOTIONS), np.float32)
        if self.folder.config.emotion == "speech":
            emotion = self._encoders.emotion(samples, window)[0].cpu().numpy()
        return Speech(content, emotion, rest_track(resting, len(content)))

    @torch.no_grad()
    def sample_motion(
        self,
        portrait: Portrait,
        speech: Speech,
        *,
        emotion: Mapping[str, float] | Sequence[Mapping[str, Any]] | None = None,
        emotion_fade: float = 0.3,
        seed: int = 0,
        nfe: int = 0,
        a_cfg_scale: float = 2.0,
        e_cfg_scale: float = 1.0,
        r_cfg_scale: float = 1.0,
        pose: np.ndarray | None = None,
    ) -> Tensor:
        """Motion latents (T,D) of a portrait that speaks, with the mouth at rest where the speech says so.

        `emotion` gives weights, {"happy": 1.0}, that replace the predicted emotion, or a list of spans as a manifest
        has them, [{"start": 0.0, "end": 2.4, "emotion": "happy", "strength": 1.5}], with cross-fades of `emotion_fade`
        seconds. `nfe` is the number of evaluations per window of 2 s; 0 uses the model's default. `pose` (T,6) float32
        is for a model with that condition. Raises RefusedError, and ClipError for a span after the end or if the mouth
        should rest and is not found in the model, where it is looked for at first use.
        """
        weights, track = speech.emotion, None
        if isinstance(emotion, Sequence):
            track = _track_of(emotion, emotion_fade, speech, e_cfg_scale)
        elif emotion is not None:
            unknown = sorted(set(emotion) - set(EMOTIONS))
            if unknown:
                raise RefusedError(f"unknown emotion {', '.join(unknown)}; the emotions are {', '.join(EMOTIONS)}")
            weights = vector_of(emotion)
        strength: Tensor | float = 1.0
        if track is not None:
            weights, strength = track.emotion, torch.from_numpy(track.strength)[None].to(self.device)
        mouth = resting_mouth(speech.rest, self._float, self.folder.hash)
        motion: Tensor = self._float.sample_motion(
            torch.from_numpy(speech.content)[None].to(self.device),
            portrait.motion,
            torch.from_numpy(weights)[None].to(self.device),
            nfe=nfe or default_nfe(self.folder.config.objective),
            audio_scale=a_cfg_scale,
            emotion_scale=strength * e_cfg_scale,
            reference_scale=r_cfg_scale,
            pose=None if pose is None else torch.from_numpy(pose)[None].to(self.device),
            seeds=[seed],
        )[0]
        return motion if mouth is None else mouth(motion)

    def decode(self, portrait: Portrait, motion: Tensor) -> np.ndarray:
        """Motion latents (T,D) -> frames (T,S,S,3) uint8 RGB at 25 per second, S*S*3 bytes each."""
        frames = np.empty((len(motion), self.size, self.size, 3), np.uint8)
        for start in range(0, len(motion), BATCH):
            with torch.no_grad():
                found = self._float.decode(portrait, motion[start : start + BATCH])
            frames[start : start + BATCH] = to_images(found)
        return frames

    def write_mp4(
        self,
        path: str | os.PathLike[str],
        frames: np.ndarray,
        sound: str | os.PathLike[str] | np.ndarray,
        video: VideoSettings | None = None,
    ) -> Path:
        """Write frames (T,S,S,3) uint8 and their audio (as for `speech_features`) to a local MP4.

        H.264 and AAC unless `video` has another preset in MP4; BT.709, 25 fps, and marked as AI-generated like every
        delivery. Raises ClipError.
        """
        settings, path = video or VideoSettings(), Path(path)
        fps = parse_fps(settings.fps)
        if fps != MOTION_FPS:
            raise RefusedError(
                f"fps: the model generates {MOTION_FPS} frames per second, so fps cannot be {settings.fps}"
            )
        form = settings.format
        if form.container != MP4:
            raise RefusedError(
                f"container: this writes MP4, and video.preset={settings.preset} is {form.container.muxer}"
            )
        tags = {"comment": f"AI-generated talking portrait; Floatcast, model {self.folder.name}", "title": path.stem}
        size = frames.shape[2], frames.shape[1]
        write_video(_planes(frames, form.layout), path, size, settings, _track(sound, form.sound).sound, tags)
        mark(path, clip_id=path.stem, model=self.folder.name, model_hash=self.folder.hash)
        verify_video(path, frames=len(frames), fps=fps, form=form)
        return path


def open_model(name: str = POCKET, device: str = "auto") -> Model:
    """Open a model: `pocket` for the small bundled model, a local folder, or the URI of a folder in object storage.

    `device` is cpu, cuda, or auto, which uses a GPU if PyTorch finds one. Raises RefusedError and StorageError.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return Model(checked_model(name), device)


def _track_of(spans: Sequence[Any], fade: float, speech: Speech, e_cfg_scale: float) -> EmotionTrack | None:
    frames = len(speech.content)
    if not 0 <= fade <= LONGEST_FADE:
        raise RefusedError(f"emotion_fade: {fade:g} is not a number of seconds from 0 to {LONGEST_FADE:g}")
    try:
        weights, parts = emotions_of(spans, e_cfg_scale)
    except ValueError as error:
        raise RefusedError(f"emotion: {error}") from None
    check_length(parts, frames / MOTION_FPS, frames)
    otherwise = speech.emotion if weights is None else vector_of(weights)
    return emotion_track(parts, fade, otherwise, frames)


def _track(sound: str | os.PathLike[str] | np.ndarray, kept: str = "aac") -> AudioTrack:
    if not isinstance(sound, np.ndarray):
        return load_audio(read_input(os.fspath(sound), Limits()), Limits(), sound=kept)
    if sound.ndim != 1 or sound.dtype.kind != "f":
        raise RefusedError(f"the audio must be mono samples (n,) float32 at 16 kHz, got {sound.dtype} {sound.shape}")
    data = io.BytesIO()
    with wave_file.open(data, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((sound.clip(-1, 1) * 32767).round().astype("<i2").tobytes())
    return load_audio(data.getvalue(), Limits(), sound=kept)


def _planes(frames: np.ndarray, layout: PixelLayout) -> Iterator[np.ndarray]:
    for start in itertools.count(0, BATCH):
        part = frames[start : start + BATCH]
        if not len(part):
            return
        yield from to_planes(to_tensor(part), layout).numpy()
