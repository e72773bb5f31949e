"""The study of one model: its parts in order, and their results.

It does not use Ray: it takes at most an hour on one machine, measures one model with one set of instruments, and a
resumable graph would be more complex than the study itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from models import FLOAT, ModelFolder, load_float
from pipeline.media.contact_sheet import comparison_sheet
from pipeline.report.charts import dot_chart
from pipeline.research.study.clips import StudyError, Watch, spread, unwatched
from pipeline.research.study.feeling import feeling_metrics, render_feelings
from pipeline.research.study.metric import Metric
from pipeline.research.study.probe import Frames, Probe, encode_frames, probe_metrics
from pipeline.research.study.reader import Reader, reader_metrics, ready_reader
from pipeline.research.study.reconstruction import (
    draw_pairs,
    reconstruction_metrics,
    score_pairs,
    worst_strip,
    worst_table,
)
from pipeline.research.study.rendering import Renderer
from pipeline.research.study.settings import EmotionSettings, FrameSettings, ReaderSettings, SpeechSettings
from pipeline.research.study.speech import speak_clips, speech_metrics, worst_clips
from pipeline.research.study.texts import text_metric
from pipeline.storage.uris import join
from pipeline.training_data.shards import CLIPS, Shards

WORST_TEXT = "those with the lowest PSNR of the mouth, the worst on the left"

READER = "reader.safetensors"


@dataclass
class Findings:
    """The results of the parts."""

    metrics: list[Metric] = field(default_factory=list)
    pictures: list[tuple[str, bytes]] = field(default_factory=list)
    """(caption, JPEG)."""
    plots: list[str] = field(default_factory=list)
    """Charts, as HTML."""
    tables: list[tuple[str, list[list[str]]]] = field(default_factory=list)
    """(caption, rows, the first of which is the head)."""
    notes: list[str] = field(default_factory=list)
    """What a reader must know in addition to the metrics."""


class Study:
    """One model and the samples that it is measured on."""

    def __init__(
        self,
        folder: ModelFolder,
        data: str,
        output: str,
        *,
        splits: Sequence[str] = ("test", "validation"),
        seed: int = 0,
        frames: FrameSettings | None = None,
        speech: SpeechSettings | None = None,
        reader: ReaderSettings | None = None,
        emotion: EmotionSettings | None = None,
        watch: Watch = unwatched,
    ) -> None:
        """`data` is the output of jobs.prepare, made from the corpus.

        Raises StudyError if a side of the splits is empty.
        """
        self.folder, self.data, self.output, self.seed, self.watch = folder, data, output, seed, watch
        self.frames, self.speech = frames or FrameSettings(), speech or SpeechSettings()
        self.reader, self.emotion = reader or ReaderSettings(), emotion or EmotionSettings()
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model: FLOAT = load_float(folder, self.device)
        self.size = folder.config.image_size
        self.train, self.held_out = open_split(data, ["train"]), open_split(data, list(splits))
        self.probe: Probe | None = None
        self._reader: Reader | None = None
        self._renderer: Renderer | None = None

    def texts(self, corpus: str, found: Findings) -> None:
        """Measure how much of what held-out speakers say is new."""
        found.metrics.append(text_metric(corpus, self.train, self.held_out, self.seed))

    def reconstruction(self, found: Findings) -> None:
        """The auto-encoder: reconstruct held-out frames from other ones."""
        pairs = draw_pairs(self.held_out, self.frames.pairs, self.seed)
        scores = score_pairs(self.model.autoencoder, self.held_out, pairs, self.size, self.device, self.watch)
        metrics = reconstruction_metrics(scores, self.seed)
        found.metrics += metrics
        found.plots.append(
            _dots("PSNR gain over copying the source, and over the code of another frame, dB", metrics, ".over_")
        )
        found.pictures.append(("Held-out speakers, reconstructed", comparison_sheet(scores.strip)))
        if scores.worst:
            found.pictures.append((f"Worst pairs of frames: {WORST_TEXT}", comparison_sheet(worst_strip(scores))))
            found.tables.append(("Worst pairs of frames", worst_table(scores)))

    def measure_probe(self, found: Findings) -> None:
        """Measure what the motion code says about the blendshapes and the head."""
        train = self._frames(self.train, self.frames.train_clips)
        self.probe, metrics = probe_metrics(train, self._frames(self.held_out, self.frames.clips), self.seed)
        found.metrics += metrics
        found.plots.append(
            _dots("R2 of blendshapes predicted from the motion code, held-out speakers", metrics, "probe.")
        )

    def _frames(self, shards: Shards, count: int) -> Frames:
        clips, per_clip = spread(shards, count, self.seed), self.frames.per_clip
        return encode_frames(self.model.autoencoder, shards, clips, per_clip, self.size, self.device, self.watch)

    def measure_speech(self, found: Findings) -> None:
        """Measure mouths that are rendered from audio."""
        reader = self._ready_reader(found)
        renderer = self._ready_renderer()
        spoken = speak_clips(renderer, self.held_out, self.speech, reader, self.seed, self.watch)
        metrics, plots, notes = speech_metrics(spoken, self.seed)
        found.metrics += metrics
        found.plots += plots
        found.notes += notes
        found.tables += worst_clips(spoken)
        found.pictures.append(
            ("Held-out speakers, rendered from the first frame and the audio", comparison_sheet(spoken.strip))
        )

    def measure_emotion(self, found: Findings) -> None:
        """Measure emotions that are given or predicted. What the samples do not allow becomes a note."""
        reader = self._ready_reader(found)
        try:
            felt = render_feelings(
                self._ready_renderer(), reader, self.train, self.held_out, self.emotion, self.seed, self.watch
            )
        except StudyError as error:
            found.notes.append(f"NOTE: emotions are not measured: {error}")
            return
        metrics, tables = feeling_metrics(felt, self.seed)
        found.metrics += metrics
        found.plots.append(
            _dots("Share of clips whose intended emotion is recognised", metrics, ".accuracy", ".agrees", ".ears")
        )
        found.tables += tables
        found.pictures.append(
            ("Neutral portraits of held-out speakers, redirected to each emotion", comparison_sheet(felt.strip))
        )

    def _ready_reader(self, found: Findings) -> Reader:
        if self._reader is None:
            uri = join(self.reader.folder or self.output, READER)
            self._reader = ready_reader(uri, self.train, self.reader, self.seed, self.device, self.watch)
            clips, per_clip = self.frames.clips, self.frames.per_clip
            found.metrics += reader_metrics(self._reader, self.held_out, clips, per_clip, self.seed, self.watch)
        return self._reader

    def _ready_renderer(self) -> Renderer:
        if self._renderer is None:
            self._renderer = Renderer(self.folder, self.model, self.speech, self.device)
        return self._renderer


def _dots(caption: str, metrics: Sequence[Metric], *parts: str) -> str:
    """A chart of the metrics whose key contains one of `parts`."""
    shown = [one for one in metrics if any(part in one.key for part in parts)]
    return dot_chart(caption, [one.estimate.dot(one.key) for one in shown])


def open_split(data: str, splits: list[str], kind: str = CLIPS) -> Shards:
    """Samples of some splits. Raises StudyError if there are none."""
    try:
        return Shards(join(data, kind), splits)
    except FileNotFoundError as error:
        raise StudyError("split_empty", f"{error}: prepare more speakers, or name another split") from None
