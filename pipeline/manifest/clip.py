"""One clip to render, and how a manifest row becomes one: typed, validated, and with defaults filled in."""

from dataclasses import dataclass, field
from typing import Any

from models import FloatConfig
from models.sampling import check_nfe, default_nfe
from pipeline.common.errors import ClipError
from pipeline.common.quoted import quoted
from pipeline.manifest.clip_ids import id_of
from pipeline.manifest.delivery import FurtherTrack, preset_of, title_of, tracks_of
from pipeline.manifest.dialogue import DialogueFace, face_of, read_faces
from pipeline.manifest.emotion_spans import EmotionSpan
from pipeline.manifest.noticed import Noticed, place
from pipeline.manifest.pose_spans import PoseSpan, poses_text
from pipeline.manifest.programme import PASSED_ON, Programme, programme_of
from pipeline.manifest.row_reader import POSE_VIDEOS, RowReader
from pipeline.manifest.rows import Row
from pipeline.manifest.settings import LONGEST_FADE, ClipDefaults
from pipeline.manifest.silence import Silence, seconds_in, silence_in
from pipeline.manifest.values import is_absent
from pipeline.media.settings import VideoSettings, parse_fps
from pipeline.media.slot import Slot
from pipeline.storage.uris import resolve

COLUMNS = (
    *("clip_id", "image", "audio", "language", "speaker", "emotion", "seed", "nfe"),
    *("a_cfg_scale", "e_cfg_scale", "r_cfg_scale", "crop", "frame", "face", "pose", "timecode", "consent_ref", "tags"),
    *("audio_stream", "emotion_fade", "frames", "on_length", "pose_fade", "gaze", "audio_tracks", "title", "preset"),
    *("programme", "order", "silence", "seconds", "faces"),
)


@dataclass(frozen=True)
class Clip:
    """One clip to render: a valid manifest row with defaults filled in."""

    row: int
    """Row number in the manifest, from 1, not counting a header."""
    clip_id: str
    image: str
    """URI or absolute path."""
    audio: str
    """The same; empty for a clip with several faces, which have one each."""
    emotion: dict[str, float] | None
    """Weights by emotion, with sum 1, outside of the spans; with None they come from where `emotion_from` says."""
    seed: int
    nfe: int
    a_cfg_scale: float
    e_cfg_scale: float
    r_cfg_scale: float
    crop: str
    frame: str = "crop"
    """crop or full: whether the square or the whole picture is delivered."""
    framing: dict[str, Any] = field(default_factory=dict)
    """The settings of full frames by their names; empty if frame is crop."""
    face: str = "largest"
    """Which face of the image, as `pipeline.face.choice` writes it; without a meaning if crop is none."""
    language: str | None = None
    speaker: str | None = None
    consent_ref: str | None = None
    tags: Any = None
    extra: dict[str, Any] = field(default_factory=dict)
    """Columns without a meaning for us, which are passed through to the output row."""
    emotion_from: str = "speech"
    """speech, image or none: where the model takes the emotion from if the row gives none; neutral without speech."""
    pose: str | None = None
    """URI or absolute path of the head poses, for a model with that condition."""
    spans: tuple[EmotionSpan, ...] = ()
    """Parts of the clip with an emotion of their own, in the order of time."""
    emotion_fade: float = 0.3
    """Length of the cross-fade at each end of a span, s; without a meaning if there are none."""
    silence: Silence = Silence()
    """What the mouth does in pauses."""
    seconds: float | None = None
    """Length of a clip without speech, whose `audio` is empty."""
    pose_spans: tuple[PoseSpan, ...] = ()
    """Parts of the clip in which the head is turned further than those poses, in the order of time."""
    pose_fade: float = 0.5
    """Time in which the head turns at each end of such a span, s; without a meaning if there are none."""
    timecode: str | None = None
    """SMPTE time code of the first frame, which the frame rate can have."""
    slot: Slot | None = None
    """The number of frames that the row gives, at the frame rate of the job; None if the audio decides."""
    programme: Programme | None = None
    """The row's place among others that it goes on from and that go on from it."""
    audio_stream: str | None = None
    """Which audio stream of the file: a number from 1 or a BCP-47 tag; with None one is chosen for the clip."""
    audio_tracks: tuple[FurtherTrack, ...] = ()
    """Further audio tracks of the delivered file, in their order."""
    title: str | None = None
    """Title of the delivered file; with None it is the clip_id."""
    preset: str | None = None
    """Delivery preset; None if the row does not say it."""
    filing: dict[str, Any] = field(default_factory=dict)
    """What decides how the file is encoded, by names in fingerprints, if `preset` is not that of the job."""
    gap_after: str | None = None
    """For a clip that no row gives, because it fills a gap of its programme: clip_id of the row before the gap."""
    faces: tuple[DialogueFace, ...] = ()
    """The faces that are animated, with their own sounds; empty if it is one face, `face`, with `audio`."""
    fingerprint: str = "unplanned"
    """Identity of the inputs and of every setting that affects the pixels (`pipeline.run.fingerprint`)."""
    line: int = field(default=0, compare=False)
    """Line of the manifest on which the row begins, from 1; 0 where there are no lines."""
    short: str = field(default="", compare=False)
    """What is wrong if the row ends before the last column, so that its values may be in wrong columns."""

    @property
    def place(self) -> str:
        """`row 3 (line 4)`, for messages."""
        return place(self.row, self.line)

    @property
    def sounds(self) -> tuple[str, ...]:
        """URIs of its audio files, in the order of its faces."""
        return tuple(face.audio for face in self.faces if face.audio) or (self.audio,)

    @property
    def named(self) -> str:
        """Title of the delivered file."""
        return self.clip_id if self.title is None else self.title

    @property
    def pose_text(self) -> str | None:
        """The value of the column `pose`, as a manifest can have it."""
        return poses_text(self.pose, self.pose_spans)

    @property
    def pose_source(self) -> str | None:
        """array or video: what kind of file the head poses come from; None if there are none."""
        return None if self.pose is None else "video" if self.pose.lower().endswith(POSE_VIDEOS) else "array"


@dataclass(frozen=True)
class Wanted:
    """What the model and the job's settings require of a row."""

    model: FloatConfig
    sampler: str
    """The resolved sampler, never auto."""
    defaults: ClipDefaults
    video: VideoSettings = field(default_factory=VideoSettings)
    """The defaults of the columns `frame` and `preset`, and the settings of full frames."""
    signs: bool = False
    """Whether files are signed (C2PA)."""


def read_clip(row: Row, base: str, wanted: Wanted) -> tuple[Clip, tuple[Noticed, ...]]:
    """One table row -> (Clip, what was noticed). Raises ClipError, which names row, column and the allowed values.

    Relative paths start at the folder `base`.
    """
    if row.problem:
        raise ClipError("row_unreadable", f"{row.place}: {row.problem}")
    # Absent, null, empty and NaN (which pandas writes for missing numbers) all mean "not given".
    given = {name: value for name, value in row.values.items() if not is_absent(value)}
    read, model, defaults = RowReader(row.place, given), wanted.model, wanted.defaults
    image, seconds = read.file("image", read.required("image")), seconds_in(read)
    nfe = read.integer("nfe", 1, 1000, defaults.nfe or default_nfe(model.objective))
    try:
        check_nfe(wanted.sampler, nfe)
    except ValueError as error:
        raise read.invalid("nfe", str(error)) from None
    frame = read.choice("frame", ("crop", "full"), wanted.video.frame)
    crop = read.choice("crop", ("auto", "none"), defaults.crop)
    e_cfg_scale = read.number("e_cfg_scale", 0, 20, defaults.e_cfg_scale)
    emotion, spans = read.emotions(model, e_cfg_scale)
    known = {"frame": frame, "crop": crop, "e_cfg_scale": e_cfg_scale, "seconds": seconds}
    faces = read_faces(read, base, model, known)
    audio = "" if faces or seconds else resolve(base, read.file("audio", read.required("audio")))
    named = {"audio": next(face.audio for face in faces if face.audio)} if faces else {}
    clip_id, unsuitable = id_of(row.place, read.text("clip_id"), given | named)
    preset, video = preset_of(read, wanted.video, signs=wanted.signs)
    read.no_gaze()
    pose, pose_spans = read.poses(base, model)
    clip = Clip(
        row=row.number,
        line=row.line,
        short=row.short,
        clip_id=clip_id,
        image=resolve(base, image),
        audio=audio,
        faces=faces,
        seconds=seconds,
        emotion=emotion,
        spans=spans,
        emotion_fade=read.number("emotion_fade", 0, LONGEST_FADE, defaults.emotion_fade),
        emotion_from="neutral" if seconds and model.emotion == "speech" else model.emotion,
        pose=pose,
        pose_spans=pose_spans,
        pose_fade=read.number("pose_fade", 0, LONGEST_FADE, defaults.pose_fade),
        seed=read.integer("seed", 0, 2**63 - 1, defaults.seed),
        nfe=nfe,
        a_cfg_scale=read.number("a_cfg_scale", 0, 20, defaults.a_cfg_scale),
        e_cfg_scale=e_cfg_scale,
        r_cfg_scale=read.number("r_cfg_scale", 0, 20, defaults.r_cfg_scale),
        crop=crop,
        frame=frame,
        framing=wanted.video.framing if frame == "full" else {},
        face=face_of(read, crop, defaults.face),
        silence=silence_in(read, "idle" if seconds else defaults.silence),
        timecode=(timecode := read.timecode(wanted.video)),
        programme=programme_of(read, timecode, parse_fps(wanted.video.fps)),
        slot=read.slot(wanted.video, defaults.on_length),
        audio_stream=read.audio_stream(),
        audio_tracks=tracks_of(read, base, video.format.container),
        title=title_of(read),
        preset=preset,
        filing={} if video.preset == wanted.video.preset else video.file_parts,
        language=read.language(),
        speaker=read.text("speaker"),
        consent_ref=read.text("consent_ref"),
        tags=given.get("tags"),
        extra={name: value for name, value in row.values.items() if name not in COLUMNS or name in PASSED_ON},
    )
    if not unsuitable:
        return clip, ()
    example = f"{quoted(unsuitable)} became {quoted(clip_id)}"
    return clip, (Noticed("clip_ids were made from names of audio files that are no suitable clip_ids", True, example),)
