"""The cost of quality control for one clip that shows a speaking face, on one core."""

import io
import math
import os
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch

from jobs.bench.counting import seconds
from jobs.bench.job import DEMO, Figures, say
from jobs.bench.machine import memory
from jobs.bench.subject import Subject
from models import SAMPLE_RATE
from models.pixels import to_tensor
from pipeline.common.limits import Limits
from pipeline.manifest.reader import read_manifest
from pipeline.measure.video_pass import Delivery
from pipeline.media.audio import load_audio
from pipeline.media.mp4 import write_video
from pipeline.media.planes import rgb_to_yuv420
from pipeline.media.settings import VideoSettings
from pipeline.qc.judge import Judge
from pipeline.render.clip_inputs import load_inputs

QC_SIDE = 512


def measure_quality(subject: Subject) -> Figures:
    """Seconds on one core for all checks of a clip at 512 px that shows a speaking face."""
    length = subject.sizes.quality_seconds
    clip = read_manifest(str(DEMO)).clips[0]
    inputs = load_inputs(clip, Limits(), QC_SIDE, VideoSettings())
    sound = np.resize(inputs.track.wave, length * SAMPLE_RATE)
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="wav") as file:
        stream = file.add_stream("pcm_s16le", rate=SAMPLE_RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray((sound * 32767).astype(np.int16)[None], "s16", "mono")
        frame.sample_rate = SAMPLE_RATE
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    source = buffer.getvalue()
    frames = length * 25
    portrait = to_tensor(inputs.portrait.pixels)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        # The head sways, so that no check is skipped because nothing moves.
        shifts = (round(4 * math.sin(number / 7)) for number in range(frames))
        planes = (rgb_to_yuv420(torch.roll(portrait, shift, dims=3))[0].numpy() for shift in shifts)
        write_video(planes, path, QC_SIDE, VideoSettings(), load_audio(source, Limits()).sound, {})
        delivery = Delivery(path, Fraction(25), frames, QC_SIDE, source, inputs.portrait.pixels)
        judge, cores = Judge(), os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(cores)})
        try:
            spent = seconds(lambda: judge.inspect(delivery), 2)
        finally:
            os.sched_setaffinity(0, cores)
    say(f"  {spent:.2f} s of one core for a clip of {length} s at {QC_SIDE} px")
    return {"seconds_one_core": spent, "clip_seconds": length} | memory(subject)
