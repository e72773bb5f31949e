"""One generated person after another: speech, motion and frames -> videos with their ground truth.

    videos/<speaker>/<clip>.mp4    H.264 and AAC, 25 fps, like somebody's recording
    truth/<speaker>.parquet        for each frame: action units, pose, gaze, boxes; phonemes and text of each clip
    curves/<speaker>/<clip>.npy    for each frame: action units, pose and gaze, in the form that jobs.prepare reads
    done/<speaker>.json            written last: the speaker is complete

Everything is a function of seeds and settings. Runs without Ray.
"""

import io
import logging
import os
import tempfile
import wave
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from models import EMOTIONS, SAMPLE_RATE
from models.config import POSE_DIM, SAMPLES_PER_FRAME
from models.pixels import to_tensor
from pipeline.common.limits import Limits
from pipeline.common.options import SettingError, check_ranges, option
from pipeline.common.stage import Resources, Stage
from pipeline.ledger.done_store import DONE, DoneStore
from pipeline.media.audio import load_audio
from pipeline.media.contact_sheet import Tile, contact_sheet, jpeg
from pipeline.media.mp4 import write_video
from pipeline.media.planes import rgb_to_yuv420
from pipeline.media.settings import VideoSettings
from pipeline.research.corpus.head import Head
from pipeline.research.corpus.look import LOOKS, Look
from pipeline.research.corpus.motion import FaceMotion, move
from pipeline.research.corpus.renderer import SIZES, Renderer
from pipeline.research.corpus.room import draw_room, record
from pipeline.research.corpus.text import draw_text
from pipeline.research.corpus.units import ARKIT
from pipeline.research.corpus.voice import LANGUAGES, Phoneme, draw_voice, speak
from pipeline.run.fingerprint import fingerprint
from pipeline.storage.explained import explained
from pipeline.storage.objects import put_file, write_bytes
from pipeline.storage.uris import join

logger = logging.getLogger(__name__)

VERSION = 4
"""Version of the results for the same settings."""

VIDEOS, TRUTH, CURVES = "videos", "truth", "curves"
THUMBNAIL = 128
"""Side of an image in the contact sheet, px."""

_ARRAYS = ("action_units", "pose", "gaze", "components")
_COLUMNS: list[tuple[str, Any]] = [
    *((name, pa.string()) for name in ("clip_id", "speaker", "language", "emotion", "text")),
    ("intensity", pa.float64()),
    ("frames", pa.int64()),  # T
    # float32: (T,52) in the order of pipeline.research.corpus.units.ARKIT, (T,6) and (T,3,4) as training shards have
    # them, (T,2)
    *((name, pa.binary()) for name in _ARRAYS),
    ("phonemes", pa.list_(pa.struct([("symbol", pa.string()), ("start", pa.float64()), ("end", pa.float64())]))),
]
SCHEMA = pa.schema(_COLUMNS)


@dataclass
class CorpusSettings:
    """What is generated."""

    speakers: int = option(100, "Number of speakers, each with their own head, look, voice and habits.", least=1)
    clips: int = option(10, "Number of videos per speaker; they alternate between the emotions.", least=1)
    sentences: int = option(2, "Number of sentences per video, about 2 to 4 s each.", least=1, most=4)
    size: int = option(256, f"Side length of the frames, px: {', '.join(map(str, SIZES))}.")
    stills: int = option(
        0,
        "Number of frames per video, chosen from all of it to differ in pose and expression; 0 keeps every frame. "
        "More people in less time, for the auto-encoder: it learns from pairs of frames.",
        least=0,
    )
    languages: list[str] = option(list(LANGUAGES), "Languages; the speakers alternate between them.")
    seed: int = option(0, "Seed of the corpus; another seed creates other speakers.", least=0, most=2**31)

    def __post_init__(self) -> None:
        check_ranges(self)
        if 0 < self.stills < 10:
            raise SettingError("stills", f"{self.stills} is below 10, the fewest frames that jobs.prepare takes")
        if self.size not in SIZES:
            raise SettingError("size", f"{self.size} is not one of {', '.join(map(str, SIZES))}")
        unknown = [name for name in self.languages if name not in LANGUAGES]
        if unknown or not self.languages:
            raise SettingError("languages", f"{unknown or 'none'}: choose from {', '.join(LANGUAGES)}")

    def fingerprint(self) -> str:
        """The same as long as the results for a speaker are the same, however many other speakers there are."""
        values = {name: value for name, value in asdict(self).items() if name != "speakers"}
        return fingerprint(values | {"version": VERSION, "looks": LOOKS})


def speaker_name(number: int) -> str:
    """Name of the speaker's folder."""
    return f"speaker-{number:05d}"


def read_done(output: str, number: int, mark: str) -> dict[str, Any] | None:
    """The sidecar of a speaker; None if there is none, or if it has other settings."""
    found = DoneStore(output).read(speaker_name(number))
    return found if found is not None and found["fingerprint"] == mark else None


class CorpusStage(Stage):
    """Numbers of speakers -> their videos. A worker draws with OpenGL."""

    name = "corpus"
    resources = Resources()

    def __init__(self, output: str, settings: CorpusSettings) -> None:
        self._output, self._settings, self._mark = output, settings, settings.fingerprint()

    def setup(self) -> None:
        """Use one thread, because there is a worker for every core."""
        torch.set_num_threads(1)
        os.environ.setdefault("LP_NUM_THREADS", "1")  # Mesa's renderer would take all cores, in each worker

    def process(self, speakers: Sequence[int]) -> Iterator[dict[str, Any]]:
        """Yield one row per speaker, with `status` done or failed. Never raises for a speaker."""
        for number in speakers:
            yield self._one(number)

    def _one(self, number: int) -> dict[str, Any]:
        try:
            return read_done(self._output, number, self._mark) or self._generate(number)
        except Exception as error:  # the others go on
            logger.error("speaker %d", number, exc_info=error)
            return {"number": number, "status": "failed", "message": explained(error)}

    def _generate(self, number: int) -> dict[str, Any]:
        settings, name = self._settings, speaker_name(number)
        person = int(np.random.SeedSequence([settings.seed, number]).generate_state(1)[0])
        head = Head(person)
        renderer = Renderer(head, Look.drawn(person, head), settings.size)
        language = settings.languages[number % len(settings.languages)]
        clips, truths, thumbnail = [], [], b""
        with tempfile.TemporaryDirectory(prefix="floatcast-") as folder:
            for clip in range(settings.clips):
                clip_id = f"{name}-{clip:03d}"
                truth, frames, sound = self._clip(renderer, language, person, number, clip)
                local, uri = Path(folder) / "clip.mp4", join(self._output, VIDEOS, name, f"{clip_id}.mp4")
                aac = load_audio(_wav(sound), Limits(allow_silence=True)).sound
                write_video(_planes(frames), local, settings.size, VideoSettings(crf=14), aac, {"title": clip_id})
                put_file(local, uri)
                curves = join(self._output, CURVES, name, f"{clip_id}.npy")
                write_bytes(_npy(known_curves(truth)), curves)
                thumbnail = thumbnail or jpeg(contact_sheet([[Tile(frames[len(frames) // 2])]], side=THUMBNAIL), 88)
                told = {"clip_id": clip_id, "speaker": name, "language": language, "frames": len(frames)}
                truths.append(truth | told)
                clips.append(told | {"video": uri, "emotion": truth["emotion"], "curves": curves})
            local = Path(folder) / "truth.parquet"
            pq.write_table(pa.Table.from_pylist(truths, schema=SCHEMA), local, compression="zstd")
            put_file(local, join(self._output, TRUTH, f"{name}.parquet"))
        row = {"number": number, "status": "done", "fingerprint": self._mark, "clips": clips}
        write_bytes(thumbnail, join(self._output, DONE, f"{name}.jpg"))
        DoneStore(self._output).write(name, row)
        return row

    def _clip(
        self, renderer: Renderer, language: str, person: int, number: int, clip: int
    ) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
        """Ground truth, frames (T,S,S,3) and audio (T*640,) of one clip."""
        settings = self._settings
        draw = np.random.default_rng([settings.seed, number, clip])
        seed = int(draw.integers(2**31))
        emotion, intensity = EMOTIONS[(number + clip) % len(EMOTIONS)], float(draw.uniform(0.6, 1.0))
        text = draw_text(language, seed, settings.sentences)
        said = speak(text, draw_voice(language, person), emotion=emotion, intensity=intensity, seed=seed)
        motion, sound = move(said, person, seed), record(said.wave, draw_room(seed), seed)
        phonemes: tuple[Phoneme, ...] = said.phonemes
        if settings.stills:
            chosen = different_frames(motion, settings.stills)
            motion = FaceMotion(*(values[chosen] for values in (motion.action_units, motion.pose, motion.gaze)))
            # Each frame keeps the sound of its moment; the phonemes' times would be wrong.
            sound, phonemes = sound.reshape(-1, SAMPLES_PER_FRAME)[chosen].reshape(-1), ()
        rendered = renderer.render(motion.action_units, motion.pose, motion.gaze)
        arrays = (motion.action_units, rendered.pose, motion.gaze, rendered.components)
        truth = {
            **{name: values.astype(np.float32).tobytes() for name, values in zip(_ARRAYS, arrays, strict=True)},
            "emotion": emotion,
            "intensity": intensity,
            "text": text,
            "phonemes": [asdict(phoneme) for phoneme in phonemes],
        }
        return truth, rendered.frames, sound


def different_frames(motion: FaceMotion, count: int) -> np.ndarray:
    """(count,) int64, in the order of time: frames that differ from each other in pose and expression.

    The next frame is always the one that is farthest from those chosen before (Gonzalez 1985). A shorter motion gives
    all its frames.
    """
    places = np.concatenate([motion.action_units, 3 * motion.pose, motion.gaze], axis=1)
    chosen = [int(np.linalg.norm(places - places.mean(0), axis=1).argmax())]
    away = np.full(len(places), np.inf)
    while len(chosen) < min(count, len(places)):
        away = np.minimum(away, np.linalg.norm(places - places[chosen[-1]], axis=1))
        away[chosen] = -1.0
        chosen.append(int(away.argmax()))
    return np.sort(chosen)


def known_curves(truth: dict[str, Any]) -> np.ndarray:
    """A clip's row of SCHEMA -> (T,60) float32 with the columns of `pipeline.research.corpus.units.CURVES`."""
    columns = [np.frombuffer(truth[name], np.float32) for name in ("action_units", "pose", "gaze")]
    widths = (len(ARKIT), POSE_DIM, 2)
    return np.concatenate([values.reshape(-1, width) for values, width in zip(columns, widths, strict=True)], axis=1)


def _npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def _planes(frames: np.ndarray) -> Iterator[np.ndarray]:
    for frame in frames:
        yield rgb_to_yuv420(to_tensor(frame))[0].numpy()


def _wav(sound: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes((sound.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return buffer.getvalue()
