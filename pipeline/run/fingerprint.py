"""The fingerprint of a clip: it stays the same as long as the same video would be rendered."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from models.sampling import choose_sampler
from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.face.choice import LARGEST
from pipeline.manifest.clip import Clip
from pipeline.manifest.dialogue import parts_of
from pipeline.manifest.silence import silence_text
from pipeline.media.settings import ProvenanceSettings, VideoSettings, parse_fps
from pipeline.render.settings import EngineSettings, FeatureSettings
from pipeline.storage.objects import file_info, filesystem
from pipeline.storage.trouble import MISNAMED, names_nothing, raise_if_trouble
from pipeline.storage.untrusted import under_its_spelling
from pipeline.storage.uris import is_local

if TYPE_CHECKING:
    from models import ModelFolder

Parts = dict[str, Any]
"""Name of an input or setting -> its value. The fingerprint is computed from these."""

FILE_PARTS = frozenset({"video.file", "video.preset", "video.encoder", "video.crf", "video.speed", "video.audio_kbps"})
"""Names in `VideoSettings.file_parts`."""

CLIP_SETTINGS = ("emotion", "seed", "nfe", "a_cfg_scale", "e_cfg_scale", "r_cfg_scale", "crop")


@dataclass(frozen=True)
class Source:
    """One input file."""

    identity: str
    """Changes with the contents; empty if the file cannot be accessed, in which case the feature stage reports why."""
    size: int
    """Size in bytes."""


def identify(uri: str, limits: Limits) -> Source:
    """The ETag and size of an object, or the SHA-256 of a local file, whose date changes with every copy.

    On S3 this is one request, whether the object exists or not.
    The identity is empty if the file does not exist or may not be read. Raises StorageError if the storage does not
    answer: if the file were taken for missing, a clip that is done would be planned again.
    """

    def source(name: str) -> Source:
        if is_local(name):
            fs, path = filesystem(name)
            with fs.open(path, "rb") as file:
                return Source(f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}", fs.size(path))
        info = file_info(name)
        size = int(info.get("size") or 0)
        return Source(f"etag:{str(info.get('ETag', '')).strip(chr(34))}:{size}", size)

    try:
        return under_its_spelling(uri, limits, source)
    except (ClipError, PermissionError, *MISNAMED):  # the feature stage reports why, with a code
        return Source("", 0)
    except Exception as error:
        if names_nothing(error):
            return Source("", 0)
        raise_if_trouble(error, f"{uri} could not be accessed")
        raise


def identify_sound(clip: Clip, limits: Limits) -> Source:
    """`identify` of a clip's audio; of a clip without speech it is the length."""
    return identify(clip.audio, limits) if clip.seconds is None else Source(f"seconds:{clip.seconds}", 0)


def job_parts(
    model: "ModelFolder",
    features: FeatureSettings,
    render: EngineSettings,
    video: VideoSettings,
    provenance: ProvenanceSettings | None = None,
) -> dict[str, Any]:
    """The parts that all clips of a job share.

    Batch sizes, devices, modes and `render.precision` are left out: they only change rounding, within the gate that
    each engine has to pass (`pipeline/render/tuning/gate.py`). A clip that is done is not rendered again for another
    precision; its row says how it was computed. Raises ValueError for a solver that cannot sample the model.
    """
    solver = choose_sampler(model.config.objective, render.solver)
    parts: Parts = {
        "model": model.hash,
        "render.solver": solver,
        "features.dtype": features.dtype,
        "features.window_seconds": features.window_seconds,
        "features.overlap_seconds": features.overlap_seconds,
        "video.fps": _rate(video.fps),
        **video.file_parts,
    }
    if solver == "dopri5":
        parts["render.tolerance"] = render.tolerance
    if provenance is not None and provenance.signs:
        # Clips that were delivered unsigned are rendered again. The part is left out if nothing is signed, so that
        # older fingerprints stay valid. It does not name the certificate, because a new one each year must not repeat
        # everything that was signed.
        parts["provenance.signed"] = True
    return parts


def _rate(text: str) -> str:
    """A frame rate as it was given, so that older fingerprints stay valid, or the broadcast rate that it stands for.

    Older versions rendered a rounded rate as the number that it is, which is another video.
    """
    rate = parse_fps(text)
    return text if rate == Fraction(text) else str(rate)


def sounds_of(clip: Clip, limits: Limits) -> list[Source]:
    """The clip's audio files: one, or that of each face that has one. Raises StorageError, as `identify` does."""
    return [identify(uri, limits) for uri in clip.sounds] if clip.faces else [identify_sound(clip, limits)]


def clip_parts(
    clip: Clip,
    image: Source,
    audio: Source,
    job: Parts,
    pose: Source | None = None,
    tracks: Sequence[Source] = (),
    others: Sequence[Source] = (),
) -> Parts:
    """All parts of one clip; `tracks` are the files of its further audio tracks. Of a clip with several faces, `audio`
    is the first of its sounds, and `others` are the rest.

    Left out is what a clip does not use, so that older fingerprints stay valid: head poses, a slot, tracks, faces, a
    frame that is a square. Settings of full frames do not count for other clips.

    `language` is left out, although it may decide among several audio streams: whether it does is only known from the
    file itself, which is not fetched for a plan. The column `audio_stream` of a clip's row says it. `title` is left out
    like `language`: a file that is done is not made again for it.
    """
    own = {name: getattr(clip, name) for name in CLIP_SETTINGS}
    posed: Parts = {} if pose is None else {"pose": pose.identity}
    if clip.pose_spans:
        posed |= {"pose_spans": [asdict(span) | {"number": 0} for span in clip.pose_spans], "pose_fade": clip.pose_fade}
    timed = {} if clip.timecode is None else {"timecode": clip.timecode}
    chosen = {"face": clip.face} if clip.crop == "auto" and clip.face != str(LARGEST) else {}
    stream = {} if clip.audio_stream is None else {"audio_stream": clip.audio_stream}
    spans = {"emotion_spans": [asdict(span) | {"number": 0} for span in clip.spans], "emotion_fade": clip.emotion_fade}
    felt = spans if clip.spans else {}
    rested = {"silence": silence_text(clip.silence)} if clip.silence.changes else {}
    framed = {} if clip.frame == "crop" else {"frame": clip.frame, **clip.framing}
    if clip.slot is not None:
        framed |= {"frames": clip.slot.frames, "on_length": clip.slot.on_length}
    # What it continues from is added by the plan. The emotion fades over from the row before, with or without spans.
    grouped = {} if clip.programme is None else {"programme": True, "emotion_fade": clip.emotion_fade}
    if clip.audio_tracks:
        framed["audio_tracks"] = [
            {**asdict(track), "uri": source.identity} for track, source in zip(clip.audio_tracks, tracks, strict=True)
        ]
    some = posed | timed | chosen | stream | framed | felt | rested | grouped | clip.filing
    some |= _of_faces(clip, (audio, *others))
    return joined({"image": image.identity, "audio": audio.identity, **some, **own}, job)


def joined(own: Parts, job: Parts) -> Parts:
    """The parts of a clip and those that its job shares. A row's own preset replaces the job's."""
    files = FILE_PARTS if FILE_PARTS & own.keys() else frozenset()
    return own | {name: value for name, value in job.items() if name not in files}


def _of_faces(clip: Clip, sounds: Sequence[Source]) -> Parts:
    """What every face of the column `faces` is rendered from, in their order, which is that of their squares."""
    waiting, found = iter(sounds), []
    for face, part in zip(clip.faces, parts_of(clip), strict=False):  # without faces there is one part
        own = {name: getattr(part, name) for name in ("face", "emotion", "seed", "e_cfg_scale", "audio_stream")}
        spans = [asdict(span) | {"number": 0} for span in part.spans]
        heard = next(waiting).identity if face.audio else None
        found.append(own | {"audio": heard, "spans": spans, "fade": part.emotion_fade if spans else None})
    return {"faces": found} if found else {}


def fingerprint(parts: Parts) -> str:
    """Twelve hexadecimal digits (48 bits), enough to tell the versions of one clip apart."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
