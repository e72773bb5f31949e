"""The content encoder's task: recognising phonemes frame by frame, and its error rate."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from models.speech import normalize_waveform
from models.speech_encoders import ContentEncoder
from pipeline.evaluation.bootstrap import interval
from pipeline.research.corpus.speech import ESPEAK
from pipeline.research.speech_encoders.corpus import SILENCE, Clip, letters_said
from pipeline.research.speech_encoders.networks import PhonemeModel
from pipeline.research.speech_encoders.pieces import whole_targets

PROBE_CLIPS = 120
"""Number of training clips that a linear probe is fitted on."""
RIDGE = 1e-2
"""Ridge of the probe, for features of unit variance and the mean over frames."""


def phoneme_loss(logits: Sequence[Tensor], shares: Tensor, lower: float) -> Tensor:
    """Cross-entropy with the share that each phoneme has of a frame.

    Args:
        logits: of each layer, (B,T,K).
        shares: (B,T,K), each row sums to 1.
        lower: weight of the mean over the layers below the last.
    """
    losses = [F.cross_entropy(layer.flatten(0, 1), shares.flatten(0, 1)) for layer in logits]
    below = torch.stack(losses[:-1]).mean() if losses[:-1] else torch.zeros(())
    return losses[-1] + lower * below


def as_tensor(wave: np.ndarray) -> Tensor:
    """int16 (samples,) -> normalised (1,samples) float32."""
    return normalize_waveform(torch.from_numpy(wave.astype(np.float32) / 2**15)[None])


def edit_distance(said: Sequence[str], heard: Sequence[str]) -> int:
    """Levenshtein distance: insertions, deletions and substitutions, each 1."""
    row = list(range(len(heard) + 1))
    for i, one in enumerate(said, 1):
        above, row[0] = row[0], i
        for j, other in enumerate(heard, 1):
            above, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, above + (one != other))
    return row[-1]


@dataclass(frozen=True)
class Heard:
    """The result for one clip."""

    clip: Clip
    right: float
    """Share of frames in which the phoneme that fills most of the frame is recognised."""
    errors: int
    """Edit distance between the `letters_said` of the truth and of what was recognised."""
    said: int
    """Number of true phonemes."""


def hear(model: PhonemeModel, clip: Clip, symbols: Sequence[str]) -> Heard:
    """The last layer's head on a whole clip, decoded greedily."""
    with torch.no_grad():
        best = model(as_tensor(clip.wave).to(_device(model)))[-1][0].argmax(-1).cpu()
    return _compared(clip, best, symbols)


def _compared(clip: Clip, best: Tensor, symbols: Sequence[str]) -> Heard:
    true = whole_targets(clip, symbols).argmax(-1)
    said = letters_said(clip.symbols)
    errors = edit_distance(said, letters_said([symbols[i] for i in best.tolist()]))
    return Heard(clip, (best == true).float().mean().item(), errors, len(said))


def transcript(model: PhonemeModel, wave: np.ndarray, symbols: Sequence[str]) -> list[str]:
    """Phonemes recognised in a wave (samples,) int16 at 16 kHz."""
    with torch.no_grad():
        best = model(as_tensor(wave).to(_device(model)))[-1][0].argmax(-1)
    return letters_said([symbols[i] for i in best.tolist()])


def _device(module: torch.nn.Module) -> torch.device:
    return next(module.parameters()).device


# --- Figures ---------------------------------------------------------------------------------------------------


def summary(heard: Sequence[Heard], seed: int) -> dict[str, Any]:
    """Frame accuracy and phoneme error rate with 95 % intervals over speakers, which are None for one speaker."""
    speakers = sorted({one.clip.speaker for one in heard})
    accuracy, errors = [], []
    for speaker in speakers:
        own = [one for one in heard if one.clip.speaker == speaker]
        accuracy.append(float(np.mean([one.right for one in own])))
        errors.append(sum(one.errors for one in own) / max(1, sum(one.said for one in own)))
    return {
        "speakers": len(speakers),
        "clips": len(heard),
        "frame_accuracy": float(np.mean(accuracy)),
        "frame_accuracy_interval": interval(accuracy, seed),
        "phoneme_error_rate": float(np.mean(errors)),
        "phoneme_error_rate_interval": interval(errors, seed),
    }


def by_language(heard: Sequence[Heard], seed: int) -> dict[str, dict[str, Any]]:
    """`summary` per language."""
    return _by(lambda clip: clip.language, heard, seed)


def by_voice(heard: Sequence[Heard], seed: int) -> dict[str, dict[str, Any]]:
    """`summary` per source of voices: espeak-ng, and each natural one with each of its languages."""
    return _by(lambda clip: clip.voice if clip.voice == ESPEAK else f"{clip.voice}, {clip.language}", heard, seed)


def _by(name_of: Callable[[Clip], str], heard: Sequence[Heard], seed: int) -> dict[str, dict[str, Any]]:
    names = sorted({name_of(one.clip) for one in heard})
    return {name: summary([one for one in heard if name_of(one.clip) == name], seed) for name in names}


def most_frequent(train: Sequence[Clip], held_out: Sequence[Clip], symbols: Sequence[str], seed: int) -> dict[str, Any]:
    """`summary` of a model that always predicts the most frequent phoneme of the training clips, not counting
    pauses.
    """
    counts = sum(whole_targets(clip, symbols).sum(0) for clip in train)
    assert isinstance(counts, Tensor)
    counts[symbols.index(SILENCE)] = 0
    letter = int(counts.argmax())
    frames = [torch.full((len(clip.wave) // 640,), letter) for clip in held_out]
    heard = [_compared(clip, best, symbols) for clip, best in zip(held_out, frames, strict=True)]
    return {"letter": symbols[letter], **summary(heard, seed)}


def probe(
    content: ContentEncoder, train: Sequence[Clip], held_out: Sequence[Clip], symbols: Sequence[str], seed: int
) -> dict[str, Any]:
    """`summary` of a linear map from all layers' features, as the renderer uses them, to phonemes.

    It is a ridge regression to the shares of each frame, on some of the training clips, drawn by the seed.
    """
    rng = np.random.default_rng([seed, 2])
    chosen = [train[i] for i in rng.permutation(len(train))[:PROBE_CLIPS]]
    features = torch.cat([_features(content, clip) for clip in chosen]).double()
    shares = torch.cat([whole_targets(clip, symbols) for clip in chosen]).double()
    mean, deviation = features.mean(0), features.std(0).clamp_min(1e-6)
    known = (features - mean) / deviation
    middle = shares.mean(0)
    gram = known.T @ known / len(known) + RIDGE * torch.eye(known.shape[1], dtype=torch.float64)
    weights = torch.linalg.solve(gram, known.T @ (shares - middle) / len(known))
    heard = []
    for clip in held_out:
        found = (_features(content, clip).double() - mean) / deviation @ weights + middle
        heard.append(_compared(clip, found.argmax(-1), symbols))
    return summary(heard, seed)


def _features(content: ContentEncoder, clip: Clip) -> Tensor:
    with torch.no_grad():
        return content(as_tensor(clip.wave).to(_device(content)))[0].cpu()


def spread(clips: Sequence[Clip], most: int) -> list[Clip]:
    """At most this many clips, evenly spaced in the list."""
    return [clips[i] for i in np.unique(np.linspace(0, len(clips) - 1, min(most, len(clips))).round().astype(int))]


def errors_of(said: Iterable[str], heard: Iterable[str]) -> float:
    """Edit distance divided by the number of spoken phonemes."""
    said, heard = list(said), list(heard)
    return edit_distance(said, heard) / len(said)
