"""Speech by Flite: four English voices, each made from recordings of one person.

Flite is a program that pronounces by its own dictionary and tells the time of each phoneme. Three voices are
statistical models of recordings of CMU ARCTIC, and `kal16` is made of pieces of recordings. Licence: Flite and these
voices are free for any use (Carnegie Mellon University, like BSD); the program comes with the Debian package `flite`,
and is no part of this project.
"""

# Letters of the IPA look like others, and are meant.
# ruff: noqa: RUF001

import shutil
import subprocess
import tempfile
import wave
from pathlib import Path

import numpy as np

from pipeline.common.errors import RefusedError
from pipeline.research.corpus.alignment import Script, Token
from pipeline.research.corpus.voice import PAUSE

FLITE_SPEAKERS = ("rms", "kal16", "awb", "slt")
"""An American, another one, a Scot who speaks American here, and an American woman."""

LATE = {"kal16": 0.045}
"""Seconds by which a speaker's sound is later than the times that Flite gives; with them, vowels are loudest."""

IPA = {
    **{"aa": "ɑː", "ae": "æ", "ah": "ʌ", "ao": "ɔː", "aw": "aʊ", "ax": "ə", "ay": "aɪ", "eh": "ɛ", "er": "ɜː"},
    **{"ey": "eɪ", "ih": "ɪ", "iy": "iː", "ow": "oʊ", "oy": "ɔɪ", "uh": "ʊ", "uw": "uː", "ch": "tʃ", "dh": "ð"},
    **{"dx": "ɾ", "g": "ɡ", "hh": "h", "jh": "dʒ", "ng": "ŋ", "r": "ɹ", "sh": "ʃ", "th": "θ", "y": "j", "zh": "ʒ"},
    **{name: name for name in ("b", "d", "f", "k", "l", "m", "n", "p", "s", "t", "v", "w", "z")},
    "pau": PAUSE,
}
"""Flite's phonemes -> espeak-ng's letters for those of American English."""


def check_flite() -> None:
    """Raise RefusedError if the program is not installed."""
    if shutil.which("flite") is None:
        raise RefusedError(
            "Flite's voices need the program flite, which is not installed here: run apt-get install flite on every "
            "node, or leave flite out of corpus.voices"
        )


def flite(text: str, speaker: str, *, pace: float) -> tuple[Script, int, np.ndarray, np.ndarray]:
    """Speak: (what was said, its sample rate in Hz, samples (n,) float32, seconds of each token).

    `pace` multiplies the durations. The same arguments give the same samples. Raises RefusedError if the program is
    missing, and ValueError if it says nothing.
    """
    check_flite()
    with tempfile.TemporaryDirectory(prefix="floatcast-") as folder:
        file = Path(folder) / "said.wav"
        command = ["flite", "-voice", speaker, "--setf", f"duration_stretch={pace:.4f}", "-psdur", "-t", text]
        done = subprocess.run([*command, "-o", str(file)], capture_output=True, text=True, timeout=60)
        if done.returncode or not file.is_file():
            raise RuntimeError(f"flite could not say {text!r}: {done.stderr.strip()}")
        with wave.open(str(file)) as said:
            rate, samples = said.getframerate(), np.frombuffer(said.readframes(said.getnframes()), np.int16)
    items, ends = [], []
    for entry in done.stdout.split():
        name, end = entry.split(":")
        items.append(IPA[name])
        ends.append(float(end))
    if all(item == PAUSE for item in items):
        raise ValueError(f"Flite says nothing for {text!r}: give words")
    late = LATE.get(speaker, 0.0)
    ends = [end + late for end in ends[:-1]] + [max(ends[-1] + late, len(samples) / rate)]
    script = Script(tuple(Token(place, place) for place in range(len(items))), tuple(items))
    return script, rate, samples.astype(np.float32) / 32768, np.diff(ends, prepend=0.0)
