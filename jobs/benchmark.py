"""Measure the engine against the released algorithm, side by side: `python -m jobs.benchmark`."""

import io
import json
import math
import os
import platform
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
import torch
from transformers import Wav2Vec2Config, Wav2Vec2Model

from jobs.bench import baseline
from jobs.bench.capacity import Rates, describe_cluster, describe_manifest
from jobs.bench.counting import copy_gigabytes, count, matrix_gflops, seconds, wait_for_gpu
from jobs.bench.overhead import measure_ray
from jobs.cli.config import parse
from models import EMOTIONS, FLOAT, SAMPLE_RATE, FloatConfig, Portrait, SpeechWindow, load_float
from models.encoders import SpeechEncoders, load_speech_encoders
from models.speech_encoders import ContentEncoder, EmotionEncoder
from pipeline.common.limits import Limits
from pipeline.common.malloc import keep_memory
from pipeline.common.options import option
from pipeline.face.detector import FaceDetector
from pipeline.manifest.clip import Clip
from pipeline.manifest.reader import read_manifest
from pipeline.manifest.settings import ClipDefaults
from pipeline.measure.video_pass import Delivery
from pipeline.media.audio import load_audio
from pipeline.media.h264 import encoders_needed, measure_encoder
from pipeline.media.mp4 import VideoWriter, rgb_to_yuv420, write_mp4
from pipeline.media.settings import VideoSettings
from pipeline.qc.judge import Judge
from pipeline.render.continuous_batching import MotionInputs, MotionSlots
from pipeline.render.engine import choose_slots
from pipeline.render.feature_stage import has_bfloat16, load_inputs
from pipeline.render.model_runner import Compute
from pipeline.storage.model_cache import POCKET, cache_folder, local_model

USAGE = """
Measure, on this machine and in one run, the released algorithm (eager, one frame and one clip at a time, grouped
convolutions) against the engine, with random weights (model=pocket: those that ship) and without Ray; then what Ray
itself takes, with stages that do nothing. The full-size model takes about six minutes.

  python -m jobs.benchmark
  python -m jobs.benchmark model=pocket json=benchmark.json
  python -m jobs.benchmark sweep=true                             other batch sizes and types too
  python -m jobs.benchmark --plan manifest=m.csv                  and how many hours this manifest needs
  python -m jobs.benchmark --plan manifest=m.csv cpus=64 gpus=8   and what limits a cluster of this size

Both compute in float32 from the same weights, and their frames are compared. The baseline runs first and with the
default allocator; the engine brings its own settings (pipeline/common/malloc.py), which would speed up the baseline
too.
device=cuda has never run: nobody has had a GPU yet.
Options: --help, --plan. Exit code: 0.
"""

DEMO = Path(__file__).parent / "demo" / "manifest.jsonl"

SPEECH_SECONDS = 10

QC_SECONDS, QC_SIDE = 10, 512


@dataclass
class BenchmarkJob:
    """Configuration of `jobs.benchmark`."""

    model: str = option("full", "full: 512 px, random weights; pocket: the bundled one.", choices=("full", POCKET))
    device: str = option("cpu", "Where to compute.", choices=("cpu", "cuda"))
    threads: int = option(0, "Threads; 0 takes every CPU.", least=0)
    mode: str = option("compiled", "Engine's mode.", choices=("compiled", "eager"))
    slots: int = option(0, "Clips whose motion is sampled together; 0 takes the engine's default.", least=0)
    frame_batch: int = option(4, "Frames decoded together.", least=1)
    nfe: int = option(9, "Evaluations of the vector field per window.", least=1)
    clips: int = option(2000, "Clips of 10 s that pass through Ray without being rendered; 0 leaves Ray out.", least=0)
    sweep: bool = option(False, "Also measure other batch sizes, eager code and bfloat16 speech; compiles each.")
    json: str = option("", "File to write the figures to.")
    manifest: str = option(str(DEMO), "Manifest for --plan.")
    cpus: int = option(0, "CPUs of the cluster for --plan; 0 leaves the cluster out.", least=0)
    gpus: int = option(0, "GPUs of the cluster for --plan.", least=0)


@dataclass
class Stage:
    """One line of the table: rates of both, higher is better."""

    name: str
    unit: str
    baseline: float
    engine: float

    @property
    def ratio(self) -> float:
        """How many times as fast the engine is."""
        return self.engine / self.baseline


@dataclass
class Figures:
    """What a run has measured."""

    stages: list[Stage] = field(default_factory=list)
    variants: dict[str, float] = field(default_factory=dict)
    """Rates with other settings, in the unit of the stage that the name begins with."""
    further: dict[str, float] = field(default_factory=dict)

    def rate(self, stage: str) -> float:
        """Of the engine."""
        return next(found.engine for found in self.stages if found.name == stage)


# --- Features --------------------------------------------------------------------------------------------------


def speech_encoders(model: FLOAT, size: str, dtype: torch.dtype, device: torch.device) -> SpeechEncoders:
    """Those of the bundled model, or of full size with random weights."""
    if size == POCKET:
        return load_speech_encoders(local_model(POCKET), device, dtype)
    content = Wav2Vec2Config()  # wav2vec2-base
    emotion = Wav2Vec2Config(  # wav2vec2-large-xlsr
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        feat_extract_norm="layer",
        conv_bias=True,
        do_stable_layer_norm=True,
        id2label=dict(enumerate(EMOTIONS)),
    )
    return SpeechEncoders(
        ContentEncoder(Wav2Vec2Model(content)).eval().to(device),
        model.speech_projection,
        Path(),
        dtype,
        EmotionEncoder(emotion).eval().to(device),
    )


def measure_features(job: BenchmarkJob, model: FLOAT, device: torch.device, figures: Figures) -> None:
    """Seconds of speech per second, and what a clip costs before its speech is encoded."""
    print("speech encoders ...", flush=True)
    wave = torch.randn(1, SPEECH_SECONDS * 16_000, device=device)
    encoders = speech_encoders(model, job.model, torch.float32, device)
    whole = SpeechWindow(10_000.0, 0.0)
    rate: dict[str, float] = {}

    def measure(name: str, window: SpeechWindow | None) -> None:
        rate[name] = SPEECH_SECONDS / seconds(lambda: (encoders.speech(wave, window), encoders.emotion(wave, window)))

    measure("baseline", whole)
    measure("engine", None)
    figures.stages.append(Stage("features", "s/s", rate["baseline"], rate["engine"]))
    figures.variants["features, emotion named in the manifest"] = SPEECH_SECONDS / seconds(
        lambda: encoders.speech(wave)
    )
    if job.sweep and has_bfloat16(device.type):
        encoders.dtype = torch.bfloat16
        measure("bfloat16", None)
        figures.variants["features, bfloat16"] = rate["bfloat16"]
    clip = read_manifest(str(DEMO)).clips[0]
    detector = FaceDetector()
    load = seconds(lambda: load_inputs(clip, Limits(), detector, model.config.image_size, 192))
    figures.further["load_seconds_a_clip"] = load


# --- Quality control ---------------------------------------------------------------------------------------


def measure_quality(figures: Figures) -> None:
    """Seconds of one core for all checks of a clip of 10 s at 512 px that shows a face and speaks."""
    print("quality control ...", flush=True)
    clip = read_manifest(str(DEMO)).clips[0]
    inputs = load_inputs(clip, Limits(), FaceDetector(), QC_SIDE, 192)
    sound = np.resize(inputs.track.wave, QC_SECONDS * SAMPLE_RATE)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="wav") as file:
        stream = file.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray((sound * 32767).astype(np.int16)[None], "s16", "mono")
        frame.sample_rate = SAMPLE_RATE
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    source = buffer.getvalue()
    frames = QC_SECONDS * 25
    portrait = torch.from_numpy(inputs.portrait).permute(2, 0, 1)[None].float() / 127.5 - 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        # The head sways, so that nothing is skipped as still.
        shifts = (round(4 * math.sin(number / 7)) for number in range(frames))
        planes = (rgb_to_yuv420(torch.roll(portrait, shift, dims=3))[0].numpy() for shift in shifts)
        write_mp4(planes, path, QC_SIDE, VideoSettings(), load_audio(source, Limits()).aac, {})
        delivery = Delivery(path, Fraction(25), frames, QC_SIDE, source, inputs.portrait)
        judge, cores = Judge(), os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cores)})
        try:
            figures.further["quality_control_seconds_a_10_s_clip_one_core"] = seconds(lambda: judge.inspect(delivery))
        finally:
            os.sched_setaffinity(0, cores)


# --- Rendering -------------------------------------------------------------------------------------------------


def silence(length: float) -> bytes:
    """AAC in MP4, as the feature stage hands it over."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream("aac", rate=48_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, round(length * 48_000)), np.float32), "fltp", "mono")
        frame.sample_rate = 48_000
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return buffer.getvalue()


class Subject:
    """The model, and random inputs of one window."""

    def __init__(self, job: BenchmarkJob, device: torch.device) -> None:
        torch.manual_seed(0)
        self.job, self.device = job, device
        if job.model == POCKET:
            folder = local_model(POCKET)
            self.model, self.weights = load_float(folder, device), folder.hash
        else:
            self.model, self.weights = FLOAT(FloatConfig()).eval().to(device), "benchmark-full-seed-0"
        self.model.requires_grad_(False)
        config = self.model.config
        self.side, self.window, self.dim = config.image_size, config.window, config.latent_dim
        random = np.random.default_rng(0)
        self.pixels = random.integers(0, 256, (self.side, self.side, 3), dtype=np.uint8)
        self.image = torch.from_numpy(self.pixels).to(device).permute(2, 0, 1)[None].float() / 127.5 - 1
        self.speech = random.standard_normal((self.window, self.dim), dtype=np.float32)
        self.emotion = np.eye(7, dtype=np.float32)[3]
        self.video = VideoSettings()
        self.aac = silence(self.window / 25)

    def engine(self, mode: str, frame_batch: int) -> Compute:
        """The engine's computing, compiled where the mode says so."""
        return Compute(
            self.model,
            mode=mode,
            frame_batch=frame_batch,
            weights=self.weights,
            cache=cache_folder() / "compiled",
        )

    def sample_plain(self, portrait: Portrait) -> torch.Tensor:
        """A window of one clip by the plain model (L,D)."""
        speech = torch.from_numpy(self.speech).to(self.device)[None]
        emotion = torch.from_numpy(self.emotion).to(self.device)[None]
        return self.model.sample_motion(speech, portrait.motion, emotion, nfe=self.job.nfe, seeds=[0])[0]

    def sample(self, engine: Compute, portrait: Portrait, slots: int) -> list[torch.Tensor]:
        """A window of as many clips as there are slots, each (L,D)."""
        places = MotionSlots(engine, slots)
        for _ in range(slots):
            inputs = MotionInputs(
                self.speech, self.emotion, portrait.motion[0], (2.0, 1.0, 1.0), seed=0, nfe=self.job.nfe
            )
            places.admit(inputs)
        return [advance.motion for advance in places.advance() if advance.motion is not None]

    @contextmanager
    def writers(self, number: int) -> Iterator[list[VideoWriter]]:
        """Encoders of as many clips; on leaving, all files are complete."""
        with tempfile.TemporaryDirectory() as folder:
            made = [
                VideoWriter(Path(folder) / f"{i}.mp4", size=self.side, settings=self.video, aac=self.aac, tags={})
                for i in range(number)
            ]
            yield made
            for writer in made:
                writer.close()


@torch.no_grad()
def measure_rendering(subject: Subject, figures: Figures) -> None:
    """Rates of both, stage by stage; the baseline first."""
    job, device, window = subject.job, subject.device, subject.window
    further = figures.further
    slots = choose_slots(job.slots, gpu=device.type == "cuda")
    further["ceiling_gflops"] = matrix_gflops(device)
    further["ceiling_copy_gb_per_second"] = copy_gigabytes(device)

    print("baseline ...", flush=True)
    model = subject.model
    plain = baseline.encode(model, subject.image)
    some = plain.motion + 0.05 * torch.randn(2 * job.frame_batch, subject.dim, device=device)
    before = {
        "portrait": 1 / seconds(lambda: baseline.encode(model, subject.image)),
        "sampling": window / seconds(lambda: subject.sample_plain(plain), times=2),
        "decode": 1 / seconds(lambda: baseline.decode(model, plain, some[:1]), times=5),
    }
    wait_for_gpu()
    start = time.perf_counter()
    with subject.writers(1) as (writer,):
        found = baseline.encode(model, subject.image)
        # All frames of the clip, before the first is encoded.
        writer.write(rgb_to_yuv420(baseline.decode(model, found, subject.sample_plain(found))).cpu().numpy())
    before["end_to_end"] = window / (time.perf_counter() - start)
    expected = rgb_to_yuv420(baseline.decode(model, plain, some)).cpu().numpy()

    print("engine: start-up (compiles at the first run) ...", flush=True)
    if device.type == "cpu":
        keep_memory()

    def start_up() -> tuple[Compute, np.ndarray]:
        engine = subject.engine(job.mode, job.frame_batch)
        portrait = engine.portrait(subject.pixels)
        subject.sample(engine, portrait, slots)
        return engine, np.concatenate(list(engine.frames(portrait, some)))

    start = time.perf_counter()
    engine, frames = start_up()
    further["start_up_seconds"] = time.perf_counter() - start
    start = time.perf_counter()
    start_up()
    further["next_start_up_seconds"] = time.perf_counter() - start
    further["mean_difference_of_255"] = float(np.abs(frames.astype(int) - expected).mean())

    print("engine ...", flush=True)
    portrait = engine.portrait(subject.pixels)

    def new_portrait() -> Portrait:
        engine.forget_portraits()
        return engine.portrait(subject.pixels)

    after = {
        "portrait": 1 / seconds(new_portrait),
        "sampling": slots * window / seconds(lambda: subject.sample(engine, portrait, slots)),
        "decode": len(some) / seconds(lambda: list(engine.frames(portrait, some)), times=5),
    }
    wait_for_gpu()
    start = time.perf_counter()
    with subject.writers(slots) as writers:
        for writer, motion in zip(writers, subject.sample(engine, new_portrait(), slots), strict=True):
            for batch in engine.frames(portrait, motion):
                writer.write(batch)
    after["end_to_end"] = slots * window / (time.perf_counter() - start)
    rate = measure_encoder(subject.video, subject.side)
    before["encode"] = after["encode"] = rate
    further["encoders_needed"] = encoders_needed(after["decode"], rate)

    eager = subject.engine("eager", job.frame_batch)
    known = eager.portrait(subject.pixels)
    sampling = count(lambda: subject.sample(eager, known, slots))
    decoding = count(lambda: list(eager.frames(known, some)))
    for name, work, frames_counted in (("sampling", sampling, slots * window), ("decode", decoding, len(some))):
        gflop, gigabytes = work.gflop / frames_counted, work.gigabytes / frames_counted
        further[f"{name}_gflop_a_frame"] = gflop
        further[f"{name}_gigabytes_a_frame_unfused"] = gigabytes
        further[f"{name}_share_of_ceiling_gflops"] = gflop * after[name] / further["ceiling_gflops"]
        further[f"{name}_share_of_copy_unfused"] = gigabytes * after[name] / further["ceiling_copy_gb_per_second"]
    units = {"portrait": "images/s"}
    for name in ("portrait", "sampling", "decode", "encode", "end_to_end"):
        figures.stages.append(Stage(name, units.get(name, "frames/s"), before[name], after[name]))


@torch.no_grad()
def measure_variants(subject: Subject, figures: Figures) -> None:
    """The engine with other batch sizes, and uncompiled."""
    job, window = subject.job, subject.window
    for mode in dict.fromkeys(("eager", job.mode)):
        for size in (1, 2, 4):
            print(f"{mode}, batches of {size} ...", flush=True)
            engine = subject.engine(mode, size)
            portrait = engine.portrait(subject.pixels)
            motion = portrait.motion + 0.05 * torch.randn(8, subject.dim, device=subject.device)
            spent = seconds(partial(subject.sample, engine, portrait, size))
            figures.variants[f"sampling, {mode}, {size} slots"] = size * window / spent
            spent = seconds(partial(_drain, engine, portrait, motion))
            figures.variants[f"decode, {mode}, {size} frames"] = len(motion) / spent


def _drain(engine: Compute, portrait: Portrait, motion: torch.Tensor) -> None:
    for _ in engine.frames(portrait, motion):
        pass


# --- What a person sees ----------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> int:
    """Run the job with the arguments `argv`, by default those of the command line; returns the exit code."""
    job, flags = parse(BenchmarkJob, USAGE, argv, ["--plan"])
    clips = plannable(job.manifest) if "--plan" in flags else []
    torch.set_num_threads(job.threads or len(os.sched_getaffinity(0)))
    device = torch.device(job.device)
    subject, figures = Subject(job, device), Figures()
    measure_rendering(subject, figures)
    if job.sweep:
        measure_variants(subject, figures)
    measure_features(job, subject.model, device, figures)
    measure_quality(figures)
    if job.clips:
        print(f"Ray, {job.clips} clips that nothing is done with ...", flush=True)
        figures.further |= measure_ray(job.clips)
    figures.further["peak_memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    if device.type == "cuda":
        figures.further["peak_gpu_memory_gb"] = torch.cuda.max_memory_allocated() / 1e9
    print_figures(job, figures)
    if job.json:
        table = {
            s.name: {"baseline": s.baseline, "engine": s.engine, "unit": s.unit, "ratio": s.ratio}
            for s in figures.stages
        }
        content = table | {"variants": figures.variants, "further": figures.further}
        Path(job.json).write_text(json.dumps(content, indent=2) + "\n")
        print(f"written to {job.json}")
    if "--plan" in flags:
        print_plan(job, clips, figures)
    return 0


def plannable(uri: str) -> Sequence[Clip]:
    """Clips of a manifest that the measured model, of the default variant, would render; tells of the others."""
    manifest = read_manifest(uri, ClipDefaults())
    if manifest.rejected:
        print(f"{len(manifest.rejected)} rows are not counted, the first as {manifest.rejected[0].error.message}")
    return manifest.clips


def print_figures(job: BenchmarkJob, figures: Figures) -> None:
    """The table on the screen."""
    name = torch.cuda.get_device_name() if job.device == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"\n{job.model}, float32, {name}, {platform.machine()}, PyTorch {torch.__version__}, nfe {job.nfe}")
    print(f"{'':12} {'baseline':>10} {'engine':>10}           ratio")
    for stage in figures.stages:
        print(f"{stage.name:12} {stage.baseline:10.2f} {stage.engine:10.2f} {stage.unit:9} {stage.ratio:6.2f} x")
    print("encode is the same x264 in both, one encoder, one thread; features the same encoders, in windows or whole")
    for text, value in figures.variants.items():
        print(f"{text}: {value:.3g}")
    for text, value in figures.further.items():
        print(f"{text.replace('_', ' ')}: {value:.3g}")


def print_plan(job: BenchmarkJob, clips: Sequence[Clip], figures: Figures) -> None:
    """Hours that the manifest needs at the rates measured here, and what limits a cluster."""
    rates = Rates(
        workers_cpus=torch.get_num_threads(),
        on_gpu=job.device == "cuda",
        features=figures.rate("features"),
        load_seconds=figures.further["load_seconds_a_clip"],
        sampling=figures.rate("sampling"),
        end_to_end=figures.rate("end_to_end"),
        nfe=job.nfe,
    )
    print()
    print(describe_manifest(clips, rates, Fraction(VideoSettings().fps)))
    if job.cpus:
        print(describe_cluster(clips, rates, Fraction(VideoSettings().fps), cpus=job.cpus, gpus=job.gpus))


if __name__ == "__main__":
    raise SystemExit(main())
