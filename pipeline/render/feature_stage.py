"""The feature stage: it fetches, decodes and crops a clip's inputs, and encodes its speech. Runs without Ray."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import torch

from models import EMOTIONS, MOTION_FPS, SAMPLE_RATE, SpeechWindow
from models.config import SAMPLES_PER_FRAME
from models.model_folder import ModelFolderError
from models.pixels import to_tensor
from pipeline.common.attempts import Decision, PutOff
from pipeline.common.broken_device import end_process, is_device_failure
from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.common.notes import Note
from pipeline.common.stage import Part, Resources, Stage
from pipeline.common.watchdog import Watchdog
from pipeline.ledger.clip_row import error_row
from pipeline.ledger.columns import ClipRow
from pipeline.ledger.ledger import Ledger
from pipeline.manifest.clip import Clip
from pipeline.manifest.dialogue import parts_of
from pipeline.manifest.emotion_spans import vector_of
from pipeline.media.budget import Budget
from pipeline.media.settings import VideoSettings, parse_fps
from pipeline.media.sound_output import SoundTrack
from pipeline.render.clip_inputs import fit_to_frames, load_inputs
from pipeline.render.continuation import Continued, Ending, budgeted
from pipeline.render.device import open_gpu
from pipeline.render.emotion_track import EmotionTrack, emotion_track
from pipeline.render.face_features import FaceFeatures, FaceInputs
from pipeline.render.feature_chain import continued, in_order
from pipeline.render.picture import Picture, picture_of
from pipeline.render.settings import FeatureSettings
from pipeline.render.silence_track import muted, pauses_of, rest_track
from pipeline.render.speech_precision import open_speech_encoders
from pipeline.render.variants import use_precision
from pipeline.storage.model_cache import local_model
from pipeline.storage.untrusted import RecentInputs

if TYPE_CHECKING:
    from models.face_emotion import FaceEmotionEncoder


@dataclass(frozen=True, eq=False)
class ClipFeatures:
    """Everything that the render stage needs for a clip: about 1 MB for 10 s."""

    clip: Clip
    portrait: np.ndarray
    """(S,S,3) uint8 RGB."""
    speech: np.ndarray
    """w_a (T,D) float32 at 25 per second."""
    emotion: np.ndarray
    """w_e (7,) float32, outside of spans; zeros for a model without an emotion condition."""
    sound: bytes
    """The original audio for delivery, as in `AudioTrack`."""
    frames: int
    """Number of frames of the delivered video: ceil(duration * fps), or those of the slot."""
    audio_seconds: float
    """Length of the audio file."""
    faces_found: int | None
    face_box: tuple[float, float, float, float] | None
    portrait_turn: int | None = None
    image_frame: int | None = None
    """These four as in `Portrait`."""
    pose: np.ndarray | None = None
    """Head poses (T,6) float32, for a model with that condition."""
    track: EmotionTrack | None = None
    """The emotion of each frame, for a clip with spans."""
    rest: np.ndarray | None = None
    """How far the mouth rests in each frame (T,) float32, for a clip whose pauses are not left to the model."""
    notes: tuple[Note, ...] = ()
    """What was noticed about the input files."""
    audio_stream: str | None = None
    """As in `AudioTrack`."""
    picture: Picture | None = None
    """The whole picture, if that is delivered: 3 MB at 1920 x 1080."""
    image_sha256: str | None = None
    """SHA-256 of the image file, in that case."""
    continued: Continued | None = None
    """What goes on through it, for a clip of a programme."""
    exact_seconds: Fraction = Fraction(0)
    """`audio_seconds` without rounding."""
    tracks: tuple[SoundTrack, ...] = ()
    """Further audio tracks, for delivery."""
    others: tuple[FaceFeatures, ...] = ()
    """Further faces of a clip with several, whose first one is that of the fields above."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Wall-clock time of each step."""

    @property
    def faces(self) -> tuple[FaceFeatures, ...]:
        """All faces, in the order in which they are put into the picture."""
        part = parts_of(self.clip)[0]
        own = self.portrait, self.speech, self.emotion, self.track, part, self.face_box, self.rest, self.pose
        return FaceFeatures(*own), *self.others


class FeatureStage(Stage):
    """Clips -> features. A worker holds the speech encoders; child processes decode the files."""

    name = "features"
    _clip = ""
    """The clip in work."""

    def __init__(
        self,
        model: str,
        settings: FeatureSettings,
        limits: Limits,
        video: VideoSettings,
        ledger: Ledger | None = None,
        clip_minutes: float = 240.0,
    ) -> None:
        """`model` is a folder or URI, as for `local_model`."""
        self.resources = Resources(settings.num_cpus, settings.num_gpus if settings.device == "gpu" else 0.0)
        self._source, self._settings, self._limits, self._video = model, settings, limits, video
        self._ledger, self._clip_minutes = ledger, clip_minutes

    def setup(self) -> None:
        """Load the encoders. Raises RuntimeError if the device cannot compute in the way that the settings ask for."""
        settings = self._settings
        torch.set_num_threads(self.resources.threads)
        device = "cpu"
        if settings.device == "gpu":
            device = open_gpu(settings.num_gpus, work="encode speech", setting="features.device").type
        self._model = local_model(self._source)
        self._fps = parse_fps(self._video.fps)
        self._window = SpeechWindow(settings.window_seconds, settings.overlap_seconds)
        self._encoders = open_speech_encoders(self._model, device, settings.dtype, self._window)
        self._face_emotion: FaceEmotionEncoder | None = None
        self._portraits = RecentInputs(self._limits)
        self._watchdog = Watchdog(self._clip_minutes)

    @property
    def under_way(self) -> Mapping[str, Part]:
        """The clip in work. May be called from any thread."""
        return {clip: Part(self.name)} if (clip := self._clip) else {}

    def close(self) -> None:
        """Stop the watchdog."""
        self._watchdog.close()

    def process(self, items: Sequence[Clip | ClipRow | PutOff]) -> Iterator[ClipFeatures | ClipRow | PutOff]:
        """Yield one result per clip, in order; clips that a worker died with come last. Clips of a programme go on from
        one another, and may be put off together.

        A clip that cannot continue becomes its status row; this never raises for a clip. Rows of an earlier stage pass
        through.
        """
        torch.set_num_threads(self.resources.threads)  # another stage in this process may have set its own number
        if any(isinstance(item, Clip) and item.programme is not None for item in items):
            yield from in_order(items, self._model.config, self._ledger, self._continued)
            return
        later = []
        for item in items:
            result = self._process_one(item) if isinstance(item, Clip) else item
            if isinstance(item, Clip) and isinstance(result, PutOff):
                later.append(item)
            else:
                yield result
        for clip in later:
            yield self._process_one(clip)

    def _continued(self, clip: Clip, before: Ending | None) -> ClipFeatures | ClipRow | PutOff:
        def features(clip: Clip) -> ClipFeatures:
            placed, budget = budgeted(clip, before, self._fps)
            return continued(self._features(placed, budget), clip, before, budget, self._model.config)

        return self._process_one(clip, features)

    def _process_one(
        self, clip: Clip, features: Callable[[Clip], ClipFeatures] | None = None
    ) -> ClipFeatures | ClipRow | PutOff:
        name = f"{clip.clip_id}.{clip.fingerprint}"
        decision = self.attempts.begin(name, alone=True).decision
        if decision is Decision.WAIT:
            return PutOff(clip)
        if decision is Decision.RETIRE:
            end_process("other clips died here too")
        self._clip = clip.clip_id
        try:
            if decision is Decision.LEAVE and self._ledger is not None:
                raise self._ledger.quarantine(clip, self.name)
            self._watchdog.begin(clip.clip_id)
            return (features or self._features)(clip)
        except Exception as error:
            if self._settings.device == "gpu" and is_device_failure(error):  # every further clip would fail too
                end_process("its GPU failed", error)
            if isinstance(error, ClipError) and error.code == "worker_died" and decision is not Decision.LEAVE:
                error = self._quarantine(clip, error)
            if isinstance(error, torch.OutOfMemoryError):
                torch.cuda.empty_cache()  # the next clip may be shorter
                error = ClipError(
                    "out_of_memory",
                    "the GPU of a feature worker ran out of memory with this clip: lower features.window_seconds or "
                    "features.workers, or set features.device=cpu",
                )
            return error_row(clip, error, "features")
        finally:
            self._clip = ""
            self._watchdog.end(clip.clip_id)
            if decision is not Decision.LEAVE:
                self.attempts.end(name)

    def _quarantine(self, clip: Clip, error: ClipError) -> ClipError:
        """Leave a clip alone that crashes whatever reads its files; returns the error for its row."""
        try:
            if self._ledger is not None:
                self._ledger.quarantine(clip, self.name)
        except ClipError as trouble:
            return trouble
        return error

    def _features(self, clip: Clip, budget: Budget | None = None) -> ClipFeatures:
        start = time.perf_counter()
        size, layout = self._model.config.image_size, self._video.with_preset(clip.preset).format.layout
        inputs = load_inputs(clip, self._limits, size, self._video, self._portraits, self._clip_minutes, budget)
        loaded = time.perf_counter()
        frames = inputs.track.frames(Fraction(MOTION_FPS))
        heard = inputs.faces or (FaceInputs(inputs.portrait, inputs.track.wave),)
        # The emotion of a row does not depend on how long nobody speaks after it.
        felt = inputs.track.source.seconds if budget is not None and budget.fills else None
        first, *others = (self._face(part, one, frames, felt) for part, one in zip(parts_of(clip), heard, strict=True))
        return ClipFeatures(
            clip=clip,
            portrait=first.portrait,
            speech=first.speech,
            emotion=first.emotion,
            sound=inputs.track.sound,
            frames=inputs.track.frames(self._fps),
            audio_seconds=inputs.track.source.seconds,
            exact_seconds=Fraction(inputs.track.source.samples, inputs.track.rate),
            faces_found=inputs.portrait.faces_found,
            face_box=inputs.portrait.face_box,
            portrait_turn=inputs.portrait.turn,
            image_frame=inputs.portrait.frame,
            notes=inputs.notes,
            audio_stream=inputs.track.stream,
            picture=None if inputs.full is None else picture_of(inputs.full, layout),
            image_sha256=inputs.image_sha256,
            tracks=inputs.tracks,
            pose=inputs.pose,
            track=first.track,
            others=tuple(others),
            rest=first.rest,
            seconds={"load": loaded - start, "speech": time.perf_counter() - loaded},
        )

    def _face(self, part: Clip, inputs: FaceInputs, frames: int, felt: float | None = None) -> FaceFeatures:
        """What is made of a portrait and its sound, for so many frames at 25 per second; the emotion is predicted from
        the first `felt` seconds, or from all of it.
        """
        samples = fit_to_frames(inputs.wave, frames)
        resting, quiet = pauses_of(part.silence, samples)
        wave = torch.from_numpy(muted(samples, quiet))[None].to(self._encoders.device)
        use_precision("float32")  # TF32 would give other features than a CPU
        speech = self._encoders.speech(wave, self._window)[0].cpu().numpy()
        spoken = wave if felt is None else wave[:, : max(SAMPLES_PER_FRAME, round(felt * SAMPLE_RATE))]
        emotion = self._emotion(part, spoken, inputs.portrait.pixels)
        track = emotion_track(part.spans, part.emotion_fade, emotion, len(speech))
        rest = rest_track(resting, len(speech))
        return FaceFeatures(inputs.portrait.pixels, speech, emotion, track, part, inputs.portrait.face_box, rest)

    def _emotion(self, clip: Clip, wave: torch.Tensor, portrait: np.ndarray) -> np.ndarray:
        """w_e (7,) float32: as given in the row, or predicted from speech or from the image, depending on the model."""
        if clip.emotion is not None:
            return vector_of(clip.emotion)
        source = self._model.config.emotion
        if source == "none":
            return np.zeros(len(EMOTIONS), dtype=np.float32)
        if source == "speech" and not clip.audio:
            return vector_of({"neutral": 1.0})  # silence has no emotion that could be predicted
        if source == "speech":
            return self._encoders.emotion(wave, self._window)[0].cpu().numpy()
        pixels = to_tensor(portrait, self._encoders.device)
        with torch.no_grad():
            return self._face_classifier()(pixels)[0].cpu().numpy()

    def _face_classifier(self) -> "FaceEmotionEncoder":
        """Loaded for the first clip without a given emotion, like the speech classifier."""
        from models.encoders import load_face_emotion

        if self._face_emotion is None:
            self._face_emotion = load_face_emotion(self._model, self._encoders.device)
        if self._face_emotion is None:
            raise ModelFolderError(f"{self._model.path} has no face emotion classifier: copy or create the model again")
        return self._face_emotion
