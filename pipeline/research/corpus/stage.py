"""One generated person after another: speech, motion and frames -> videos with their ground truth.

    videos/<speaker>/<clip>.mp4    H.264 and AAC, 25 fps, like somebody's recording
    truth/<speaker>.parquet        for each frame: action units, pose, gaze, boxes; phonemes and text of each clip
    curves/<speaker>/<clip>.npy    for each frame: action units, pose and gaze, in the form that jobs.prepare reads
    done/<speaker>.json            written last: the speaker is complete

With `pictures=false`, the sound alone is in speech/<speaker>/<clip>.ogg, and there are no videos and curves.
Everything is a function of seeds and settings. Runs without Ray.
"""

import io
import logging
import os
import tempfile
import wave
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from models import SAMPLE_RATE
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
from pipeline.research.corpus.motion import FaceMotion, different_frames, move
from pipeline.research.corpus.natural import FLITE, KOKORO, MODELS, PIPER
from pipeline.research.corpus.renderer import SIZES, Renderer
from pipeline.research.corpus.speech import Spoken, compressed, draw_speaker, draw_speech, source_of
from pipeline.research.corpus.units import ARKIT
from pipeline.research.corpus.voice import LANGUAGES
from pipeline.run.fingerprint import fingerprint
from pipeline.storage.explained import explained
from pipeline.storage.objects import put_file, write_bytes
from pipeline.storage.uris import join

logger = logging.getLogger(__name__)

VERSION = 3
"""Version of the results for the same settings."""

VIDEOS, TRUTH, CURVES, SPEECH = "videos", "truth", "curves", "speech"
THUMBNAIL = 128
"""Side of an image in the contact sheet, px."""

_ARRAYS = ("action_units", "pose", "gaze", "components")
_COLUMNS: list[tuple[str, Any]] = [
    # voice: espeak, or the natural voice that the speaker's was made from; sound: path of the file with the sound
    *((name, pa.string()) for name in ("clip_id", "speaker", "language", "emotion", "text", "voice", "sound")),
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
        "The auto-encoder learns from pairs of frames: few of each person are enough, and many people take less time.",
        least=0,
    )
    languages: list[str] = option(list(LANGUAGES), "Languages; the speakers alternate between them.")
    natural: float = option(
        0.0,
        "Share of the speakers with a natural voice, among those whose language has any (extra voices); the others "
        "have a voice of espeak-ng.",
        least=0,
        most=1,
    )
    voices: list[str] = option(
        [KOKORO],
        f"Natural voices: {', '.join(MODELS)}; one that is named twice is drawn twice as often. {PIPER} and {FLITE} "
        f"speak English alone. {PIPER}'s training began with recordings that are not free for commercial use, and "
        f"{FLITE} needs the program of that name.",
    )
    shuffled: float = option(
        0.0, "Share of the texts that are words in random order instead of sentences.", least=0, most=1
    )
    pictures: bool = option(True, "Whether to make videos; false writes the speech alone, for speech encoders.")
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
        unknown = [name for name in self.voices if name not in MODELS]
        if unknown or not self.voices:
            raise SettingError("voices", f"{unknown or 'none'}: choose from {', '.join(MODELS)}")

    def fingerprint(self) -> str:
        """The same as long as the results for a speaker are the same, however many other speakers there are."""
        later = {
            "stills": 0,
            "natural": 0.0,
            "voices": [KOKORO],
            "shuffled": 0.0,
            "pictures": True,
        }  # added later: unused, they change nothing
        values = {name: value for name, value in asdict(self).items() if name != "speakers"}
        values = {name: value for name, value in values.items() if name not in later or value != later[name]}
        looks = {"looks": LOOKS} if self.pictures else {}
        return fingerprint(values | {"version": VERSION} | looks)


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
        language = settings.languages[number % len(settings.languages)]
        voice = draw_speaker(language, person, settings.natural, settings.voices)
        drawn = (
            draw_speech(
                voice,
                **{"seed": settings.seed, "number": number, "clip": clip},
                sentences=settings.sentences,
                shuffled=settings.shuffled,
            )
            for clip in range(settings.clips)
        )
        told = {"speaker": name, "language": language, "voice": source_of(voice)}
        clips = self._videos(person, told, drawn) if settings.pictures else self._speech(told, drawn)
        truths = [{**told, **clip} for clip in clips]
        with tempfile.TemporaryDirectory(prefix="floatcast-") as folder:
            local = Path(folder) / "truth.parquet"
            pq.write_table(pa.Table.from_pylist(truths, schema=SCHEMA), local, compression="zstd")
            put_file(local, join(self._output, TRUTH, f"{name}.parquet"))
        row = {
            "number": number,
            "status": "done",
            "fingerprint": self._mark,
            "clips": [self._listed(t) for t in truths],
        }
        DoneStore(self._output).write(name, row)
        return row

    def _listed(self, truth: dict[str, Any]) -> dict[str, Any]:
        """A clip's row of `corpus.csv`."""
        found = {key: truth[key] for key in ("clip_id", "speaker", "language", "frames", "emotion")}
        found["video"] = join(self._output, truth["sound"])
        return found | {"curves": join(self._output, _path(CURVES, truth, "npy")) if self._settings.pictures else ""}

    def _speech(self, told: dict[str, str], drawn: Iterable[Spoken]) -> list[dict[str, Any]]:
        truths = []
        for clip, spoken in enumerate(drawn):
            truth = spoken.truth() | {"clip_id": _clip_id(told, clip), "frames": spoken.said.frames}
            truth["sound"] = _path(SPEECH, told | truth, "ogg")
            write_bytes(compressed(spoken.sound, spoken.seed), join(self._output, truth["sound"]))
            truths.append(truth)
        return truths

    def _videos(self, person: int, told: dict[str, str], drawn: Iterable[Spoken]) -> list[dict[str, Any]]:
        size = self._settings.size
        head = Head(person)
        renderer = Renderer(head, Look.drawn(person, head), size)
        truths, thumbnail = [], b""
        with tempfile.TemporaryDirectory(prefix="floatcast-") as folder:
            for clip, spoken in enumerate(drawn):
                truth, frames, sound = _face(renderer, spoken, person, self._settings.stills)
                truth |= {"clip_id": _clip_id(told, clip), "frames": len(frames)}
                truth["sound"] = _path(VIDEOS, told | truth, "mp4")
                local = Path(folder) / "clip.mp4"
                aac = load_audio(_wav(sound), Limits(allow_silence=True)).sound
                write_video(_planes(frames), local, size, VideoSettings(crf=14), aac, {"title": truth["clip_id"]})
                put_file(local, join(self._output, truth["sound"]))
                write_bytes(_npy(known_curves(truth)), join(self._output, _path(CURVES, told | truth, "npy")))
                thumbnail = thumbnail or jpeg(contact_sheet([[Tile(frames[len(frames) // 2])]], side=THUMBNAIL), 88)
                truths.append(truth)
        write_bytes(thumbnail, join(self._output, DONE, f"{told['speaker']}.jpg"))
        return truths


def _clip_id(told: dict[str, str], clip: int) -> str:
    return f"{told['speaker']}-{clip:03d}"


def _path(folder: str, clip: dict[str, Any], ending: str) -> str:
    """Place of a clip's file in the output."""
    return f"{folder}/{clip['speaker']}/{clip['clip_id']}.{ending}"


def _face(
    renderer: Renderer, spoken: Spoken, person: int, stills: int
) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Ground truth, frames (T,S,S,3) and sound (T*640,) of one clip; of `stills` frames, unless that is 0."""
    motion, sound, said = move(spoken.said, person, spoken.seed), spoken.sound, spoken.truth()
    if stills:
        chosen = different_frames(motion, stills)
        motion = FaceMotion(*(values[chosen] for values in (motion.action_units, motion.pose, motion.gaze)))
        # Each frame keeps the sound of its moment; the phonemes' times would be wrong.
        sound = sound.reshape(-1, SAMPLES_PER_FRAME)[chosen].reshape(-1)
        said["phonemes"] = []
    rendered = renderer.render(motion.action_units, motion.pose, motion.gaze)
    arrays = (motion.action_units, rendered.pose, motion.gaze, rendered.components)
    known = {name: values.astype(np.float32).tobytes() for name, values in zip(_ARRAYS, arrays, strict=True)}
    return known | said, rendered.frames, sound


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
