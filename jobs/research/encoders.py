"""Train small speech encoders on a generated corpus: `python -m jobs.research.encoders corpus=... output=...`."""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from tqdm import tqdm

from jobs.cli.config import parse
from jobs.cli.exit_codes import CODES, ended, fail
from jobs.research.encoder_figures import PAGE, print_figures
from models.encoders import load_content_encoder
from models.model_folder import CONTENT_FOLDER, EMOTION_FOLDER
from models.speech import normalize_waveform
from models.speech_encoders import EmotionEncoder
from pipeline.common.options import option
from pipeline.common.progress import Progress
from pipeline.research.speech_encoders import emotions, phonemes
from pipeline.research.speech_encoders.corpus import Corpus, CorpusError, read_corpus
from pipeline.research.speech_encoders.metrics import measure
from pipeline.research.speech_encoders.networks import (
    PhonemeModel,
    load_phoneme_model,
    new_emotion_encoder,
    new_phoneme_model,
)
from pipeline.research.speech_encoders.page import page
from pipeline.research.speech_encoders.pieces import balanced, distorted, draw_pieces, revoiced, targets
from pipeline.research.speech_encoders.settings import EncoderSettings
from pipeline.research.speech_encoders.training import OtherRunError, Run
from pipeline.research.speech_encoders.voices import hear_people
from pipeline.run.exit_codes import DONE, REFUSED
from pipeline.storage.objects import check_writable, put_folder, write_bytes
from pipeline.storage.run_lock import RunLock, new_run_id
from pipeline.storage.uris import absolute, join

USAGE = f"""
Train two small speech encoders on a corpus from jobs.research.corpus: a content encoder that recognises phonemes, and
an emotion classifier. Both are wav2vec2 models in Hugging Face layout, start from random weights, and provide the
speech features of a small model.

  python -m jobs.research.encoders corpus=corpus output=encoders
  python -m jobs.train stage=autoencoder preset=pocket content_encoder=encoders/content_encoder \\
      emotion_encoder=encoders/emotion_encoder data=... output=... optimiser.steps=...

The job writes content_encoder/, emotion_encoder/, phoneme_head.safetensors and phonemes.json (the linear layer that
predicts phonemes, and its symbols), figures.json and encoders.html (error rates on held-out speakers and on recordings
of people, and learning curves). Running the same command again resumes from the last checkpoint, with the same losses
as an uninterrupted run. Speakers are held out in the same way as by jobs.prepare with the same split.* settings. The
job runs in one process, without Ray: an hour of speech takes 115 MB, and ten minutes on one core are enough.

Options: --help
{CODES}
"""

METRICS, HEAD, SYMBOLS = "figures.json", "phoneme_head.safetensors", "phonemes.json"

MEDIA = Path(__file__).parents[1] / "demo" / "media"


@dataclass
class Encoders(EncoderSettings):
    """Configuration of `jobs.research.encoders`."""

    corpus: str = option("", "Output folder of jobs.research.corpus, local or s3://.")
    more: list[str] = option([], "Further corpora to learn from, of other speakers; their names may be the same.")
    output: str = option("", "Folder for the encoders, local or s3://.")
    content_of: str = option(
        "",
        "Local output folder of an earlier run whose content encoder is used unchanged; only the emotion "
        "classifier is trained.",
    )
    threads: int = option(
        0, "Number of CPU threads; 0 uses all cores. Results differ slightly with the number of threads.", least=0
    )
    device: str = option("auto", "auto uses a GPU if there is one.", choices=("auto", "cpu", "cuda"))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, _ = parse(Encoders, USAGE, argv)
    for key in ("corpus", "output"):
        if not getattr(job, key):
            return fail(f"{key}: give a folder", REFUSED)
    if job.device == "cuda" and not torch.cuda.is_available():
        return fail("device: PyTorch finds no GPU on this machine; use auto or cpu", REFUSED)
    job.corpus, job.output = absolute(job.corpus), absolute(job.output)
    job.more = [absolute(folder) for folder in job.more]
    if job.threads:
        torch.set_num_threads(job.threads)
    return ended(lambda: _locked(job), "interrupted: run the same command again to resume from the last checkpoint")


def _locked(job: Encoders) -> int:
    check_writable(job.output)
    with RunLock(job.output, new_run_id(), "encoders.lock"):
        return _run(job)


def _run(job: Encoders) -> int:
    start = time.monotonic()
    corpus = _read(job)
    known = _known_content(job, corpus) if job.content_of else None
    device = "cuda" if job.device == "auto" and torch.cuda.is_available() else job.device.replace("auto", "cpu")
    symbols, clips = known[1] if known else corpus.symbols, corpus.train + corpus.held_out
    seconds = sum(len(clip.wave) for clip in clips) / 16_000
    print(
        f"corpus: {len(clips)} clips, {seconds / 3600:.2f} h, {len(symbols) - 1} phoneme symbols and silence, on "
        f"{device}"
    )
    print(f"held out: {len(corpus.held_out)} clips of {len({clip.speaker for clip in corpus.held_out})} speakers")
    content, points = (known[0].to(device), []) if known else _train_content(job, corpus, symbols, device)
    _store(job, CONTENT_FOLDER, content.content.save)
    write_bytes(
        save({name: t.contiguous() for name, t in content.heads[-1].state_dict().items()}), join(job.output, HEAD)
    )
    write_bytes(json.dumps(symbols, ensure_ascii=False).encode(), join(job.output, SYMBOLS))
    emotion, more = _train_emotion(job, corpus, content, device)
    emotions.sharpen(emotion, job.emotion.sharpness)
    _store(job, EMOTION_FOLDER, emotion.save)
    print("measuring ...", flush=True)
    settings = {name: value for name, value in asdict(job).items() if name not in ("corpus", "more", "output")}
    metrics = {"settings": settings, **measure(job, corpus, content.cpu(), emotion.cpu(), symbols, MEDIA)}
    write_bytes(json.dumps(metrics, indent=1, ensure_ascii=False).encode(), join(job.output, METRICS))
    write_bytes(page(metrics, [*points, *more], " ".join([job.corpus, *job.more])).encode(), join(job.output, PAGE))
    print_figures(metrics, job.output, time.monotonic() - start)
    return DONE


def _read(job: Encoders) -> Corpus:
    with tqdm(desc="reading", unit="clip", disable=None) as bar:

        def on_clip(total: int) -> None:
            bar.total = total
            bar.update()

        return read_corpus(job.corpus, job.split, on_clip, job.held_voices, job.more)


def _known_content(job: Encoders, corpus: Corpus) -> tuple[PhonemeModel, list[str]]:
    """The content encoder of an earlier run and its phoneme symbols.

    Raises CorpusError if it lacks a symbol of this corpus.
    """
    folder = Path(job.content_of)
    try:
        content, symbols = load_phoneme_model(folder / CONTENT_FOLDER, folder / HEAD, folder / SYMBOLS)
    except OSError:
        raise CorpusError(
            f"content_of: {folder} is not an output of jobs.research.encoders: give one that is"
        ) from None
    if unknown := sorted(set(corpus.symbols) - set(symbols)):
        raise CorpusError(
            f"it has phoneme symbols that the encoder of content_of={folder} does not know: {' '.join(unknown)}"
        )
    return content, symbols


def _identity(job: Encoders, corpus: Corpus, *parts: str) -> dict[str, Any]:
    """Plain values that the weights depend on."""
    values = asdict(job)
    del values["emotion"]["sharpness"]  # of what is saved, not of what is learned
    return {
        "corpus": corpus.digest(),
        **{name: values[name] for name in ("seed", "size", "split", "held_voices", *parts)},
    }


def _train_content(
    job: Encoders, corpus: Corpus, symbols: Sequence[str], device: str
) -> tuple[PhonemeModel, Sequence[tuple[int, str, float]]]:
    wanted = job.content
    model = _begin(job, len(symbols)).to(device)
    identity = _identity(job, corpus, "content")
    pool = balanced(corpus.train, wanted.natural)
    groups = {"": corpus.of_voices(natural=False), "natural_": corpus.of_voices(natural=True)}
    shown = {name: phonemes.spread(clips, job.watch.samples) for name, clips in groups.items() if clips}

    def loss(step: int) -> torch.Tensor:
        clips, waves, moments = draw_pieces(pool, wanted.batch, wanted.seconds, wanted.stretch, job.seed, step)
        waves = revoiced(waves, job.seed, step, wanted.tract, wanted.masks)
        waves = normalize_waveform(distorted(waves, job.seed, step, wanted.distorted)).to(device)
        return phonemes.phoneme_loss(model(waves), targets(clips, moments, symbols).to(device), wanted.lower_layers)

    def validate() -> dict[str, float]:
        values: dict[str, float] = {}
        for group, clips in shown.items():
            found = phonemes.summary([phonemes.hear(model, clip, symbols) for clip in clips], job.seed)
            values |= {group + name: found[name] for name in ("frame_accuracy", "phoneme_error_rate")}
        people = [one for one in hear_people(model, symbols, MEDIA, job.seed) if "said" in one]
        wrong = sum(one["phoneme_error_rate"] for one in people) / len(people)
        return values | {"people_phoneme_error_rate": wrong}

    run = Run(
        "content", model, job.output, steps=wanted.steps, highest=wanted.learning_rate, seed=job.seed, identity=identity
    )
    return model, _train(job, run, loss, validate)


def _begin(job: Encoders, symbols: int) -> PhonemeModel:
    """The initial content encoder. Raises OtherRunError if `content.begin` is not an encoder of this size."""
    folder = job.content.begin
    try:
        start = load_content_encoder(folder) if folder else None
        return new_phoneme_model(job.size, symbols, job.seed, start)
    except (OSError, RuntimeError):
        raise OtherRunError(
            f"content.begin: {folder} is not a content encoder of this size: give one that is"
        ) from None


def _train_emotion(
    job: Encoders, corpus: Corpus, content: PhonemeModel, device: str
) -> tuple[EmotionEncoder, Sequence[tuple[int, str, float]]]:
    wanted = job.emotion
    start = content.content if wanted.start == "content" else None
    encoder = new_emotion_encoder(job.size, job.seed, start)
    model = emotions.EmotionModel(encoder).to(device)
    identity = _identity(job, corpus, "emotion", *(["content", "content_of"] if start else []))
    shown = phonemes.spread(corpus.held_out, job.watch.samples)
    pitch = cache(emotions.clip_pitch)

    def loss(step: int) -> torch.Tensor:
        clips, waves, moments = draw_pieces(
            corpus.train, wanted.batch, wanted.seconds, wanted.stretch, job.seed + 1, step
        )
        waves = normalize_waveform(distorted(waves, job.seed + 1, step)).to(device)
        octaves = emotions.pitch_targets([pitch(clip) for clip in clips], moments).to(device)
        return emotions.emotion_loss(model(waves), emotions.labels(clips).to(device), octaves, wanted.pitch)

    def validate() -> dict[str, float]:
        found = emotions.summary(shown, emotions.classify(encoder, shown), job.seed)
        return {"accuracy": found["accuracy"]}

    run = Run(
        "emotion", model, job.output, steps=wanted.steps, highest=wanted.learning_rate, seed=job.seed, identity=identity
    )
    return encoder, _train(job, run, loss, validate)


def _train(
    job: Encoders, run: Run, loss: Callable[[int], torch.Tensor], validate: Callable[[], dict[str, float]]
) -> list[tuple[int, str, float]]:
    run.resume()
    before = f", {run.step} done before" if run.step else ""
    print(f"{run.name}: {run.steps} steps{before}", flush=True)
    if run.step < run.steps:
        with Progress(run.steps - run.step, measure="steps", things=f"steps ({run.name})") as progress:

            def told() -> dict[str, float]:
                values = validate()
                shown = "  ".join(f"{name} {value:.3f}" for name, value in values.items())
                print(f"{run.name}, step {run.step}: {shown}", flush=True)
                return values

            run.train(loss, told, every=job.watch.every, on_step=lambda: progress.add({"status": "done"}))
    run.module.eval()
    last = {name: value for step, name, value in run.points if step == run.step}
    print("  ".join(f"{name} {value:.3f}" for name, value in last.items()), flush=True)
    return run.points


def _store(job: Encoders, name: str, save_to: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save_to(Path(folder))
        put_folder(Path(folder), join(job.output, name), last="config.json")


if __name__ == "__main__":
    raise SystemExit(main())
