"""A preview: the first seconds of some clips of a manifest at low cost, for a person to say yes before the whole run.

It is a run of its own in the folder `preview` of the output. Its clips differ from those of the manifest in length,
steps and delivery, so they have other fingerprints and another ledger: the whole run does not see it.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from math import ceil
from typing import Any, TypeVar

from models import MOTION_FPS
from models.sampling import check_nfe
from pipeline.common.disk_collections import Spool
from pipeline.common.options import check_ranges, option
from pipeline.manifest.clip import Clip
from pipeline.manifest.emotion_spans import EmotionSpan
from pipeline.manifest.pose_spans import PoseSpan
from pipeline.manifest.reader import Manifest
from pipeline.manifest.silence import Pause
from pipeline.media.settings import VideoSettings, parse_fps
from pipeline.media.slot import AT_MOST, EITHER, Slot
from pipeline.run.prepare_run import Inputs, Prepared, prepared_run
from pipeline.run.selection import Selection
from pipeline.run.settings import RenderSettings
from pipeline.run.targets import check_output
from pipeline.storage.uris import join

S = TypeVar("S", EmotionSpan, PoseSpan, Pause)

FOLDER = "preview"
"""Where a preview is, in the output folder of the whole run."""

SHARE = 0.4
"""Share of a row's evaluations with which a preview samples it, if the settings do not say it."""


@dataclass
class PreviewSettings:
    """What `--preview` renders."""

    clips: int = option(
        6,
        "With --preview: number of clips; `--preview 4` is the same as --preview preview.clips=4.",
        least=1,
        most=100,
    )
    seconds: float = option(3.0, "With --preview: each clip's first seconds are rendered.", least=0.2, most=600)
    nfe: int = option(
        0,
        "With --preview: evaluations of the transformer per 2 s window; 0 uses two fifths of what the row has, and no "
        "row gets more than it has.",
        least=0,
        most=1000,
    )
    rates: str = option(
        "",
        "With --preview: JSON file of jobs.benchmark, whose rates estimate the cost of the whole manifest; empty takes "
        "those of the preview's own clips.",
    )
    browser: bool = option(
        True, "With --preview: open the page in the browser, if a person sits at this terminal and it is a local file."
    )

    def __post_init__(self) -> None:
        check_ranges(self)


def preview_of(prepared: Prepared, clips: Sequence[Clip], preview: PreviewSettings) -> Prepared:
    """The run that previews these clips of a prepared run. Raises RefusedError and StorageError."""
    settings = _settings(prepared.settings)
    check_output(settings, Selection(), continues=False)
    shorter = sorted((shortened(clip, preview, prepared) for clip in clips), key=lambda clip: clip.row)
    manifest = Manifest(prepared.run.manifest.uri, Spool(shorter), Spool())
    return prepared_run(settings, Inputs(prepared.model, prepared.wanted, manifest))


def _settings(whole: RenderSettings) -> RenderSettings:
    """Those of the whole run, for another output and at low cost."""
    settings = deepcopy(whole)
    settings.output = join(whole.output, FOLDER)
    settings.only = settings.shard = ""
    settings.limit = 0
    settings.max_failed_share = 1.0
    settings.embed_videos = False
    settings.notify.url = ""  # the events are those of clips that are delivered
    video = whole.video  # a dialogue is a full frame here too
    framed = {name: getattr(video, name) for name in ("width", "height", "fit", "hold_rim")}
    settings.video = VideoSettings(fps=video.fps, **framed)
    settings.qc.max_takes = 1
    settings.qc.review = ""
    if settings.render.mode == "auto":
        settings.render.mode = "eager"  # trying or compiling others takes longer than rendering a few seconds
    return settings


def shortened(clip: Clip, preview: PreviewSettings, prepared: Prepared) -> Clip:
    """The clip of a preview: the beginning of its audio, fewer steps, and nothing beside it; the square alone, if it
    has one face.
    """
    fps = parse_fps(prepared.settings.video.fps)
    frames = max(1, ceil(round(preview.seconds * fps, 6)))
    slot = clip.slot
    if slot is None or slot.frames > frames:
        slot = Slot(frames, fps, EITHER if slot is not None and slot.on_length == "pad" else AT_MOST)
    seconds = float(slot.seconds)
    spans, turns = _until(seconds, clip.spans), _until(seconds, clip.pose_spans)
    silence = clip.silence._replace(spans=_until(seconds, clip.silence.spans))
    faces = tuple(replace(face, spans=_until(seconds, face.spans)) for face in clip.faces)
    framed: dict[str, Any] = {} if faces else {"frame": "crop", "framing": {}}
    nfe = fewer(prepared.wanted.sampler, clip.nfe, preview.nfe or ceil(SHARE * clip.nfe))
    plain = replace(clip, preset=None, filing={}, audio_tracks=(), programme=None, **framed)
    return replace(plain, slot=slot, spans=spans, silence=silence, pose_spans=turns, faces=faces, nfe=nfe)


def _until(seconds: float, spans: tuple[S, ...]) -> tuple[S, ...]:
    """The spans of a clip that begin before this time, which they end at the latest."""
    first = (span for span in spans if span.start < seconds - 1 / MOTION_FPS)
    return tuple(replace(span, end=min(span.end, seconds)) for span in first)


def fewer(sampler: str, nfe: int, wanted: int) -> int:
    """The number of evaluations from `wanted` up to `nfe` that the sampler can use and is nearest to `wanted`."""
    for number in range(min(wanted, nfe), nfe):
        try:
            check_nfe(sampler, number)
        except ValueError:
            continue
        return number
    return nfe
