"""Which emotion a clip shows: a multinomial logistic regression on statistics of its blendshapes and head angles.

An instrument reads them (`reader` from pixels, `probe` from motion codes), both for the true clips that it is fitted on
and for any clip to judge, so errors of the instrument affect both alike. A clip is only compared with itself: no
neutral face is known.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from models import EMOTIONS
from pipeline.evaluation.bootstrap import Estimate, mean, of_sums
from pipeline.research.corpus.units import ARKIT
from pipeline.research.study.clips import PLACE, SMILE

EXPRESSIVE = (*range(len(ARKIT)), PLACE["yaw"], PLACE["pitch"], PLACE["roll"])
"""Columns that an emotion may change: blendshapes and the angles of the head, but not its position."""

QUANTILES = (0.1, 0.5, 0.9)


def clip_statistics(curves: np.ndarray) -> np.ndarray:
    """(T,60) -> (275,): mean, standard deviation and three quantiles of each of 55 curves."""
    taken = curves[:, EXPRESSIVE].astype(np.float64)
    return np.concatenate([taken.mean(0), taken.std(0), *np.quantile(taken, QUANTILES, axis=0)])


def smile(curves: np.ndarray) -> float:
    """Mean of how far both corners of the mouth are raised over a clip (T,60)."""
    return float(curves[:, [PLACE[name] for name in SMILE]].mean())


@dataclass(frozen=True)
class EmotionClassifier:
    """Softmax of a linear map of standardised statistics."""

    middle: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    """(F,7)."""
    bias: np.ndarray

    def scores(self, statistics: np.ndarray) -> np.ndarray:
        """(N,F) -> (N,7)."""
        return ((statistics - self.middle) / self.scale) @ self.weight + self.bias

    def __call__(self, statistics: np.ndarray) -> np.ndarray:
        """(N,F) -> (N,) indices in `EMOTIONS`."""
        return self.scores(statistics).argmax(-1)


def fit_classifier(statistics: np.ndarray, labels: np.ndarray, decay: float = 1e-2) -> EmotionClassifier:
    """Statistics (N,F), labels (N,) as indices in `EMOTIONS`: cross-entropy + decay |W|^2, by L-BFGS."""
    middle, scale = statistics.mean(0), statistics.std(0)
    scale = np.where(scale > 1e-6, scale, 1.0)
    x, wanted = torch.from_numpy((statistics - middle) / scale), torch.from_numpy(labels.astype(np.int64))
    weight = torch.zeros(x.shape[1], len(EMOTIONS), dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(len(EMOTIONS), dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=300, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        value = F.cross_entropy(x @ weight + bias, wanted) + decay * weight.square().sum()
        value.backward()
        return value

    optimiser.step(loss)
    return EmotionClassifier(middle, scale, weight.detach().numpy(), bias.detach().numpy())


# --- Figures of recognition ------------------------------------------------------------------------------------


def confusion(wanted: np.ndarray, found: np.ndarray) -> np.ndarray:
    """(7,7) counts: rows are intended emotions, columns recognised ones."""
    table = np.zeros((len(EMOTIONS), len(EMOTIONS)), dtype=int)
    np.add.at(table, (wanted, found), 1)
    return table


def accuracy(wanted: np.ndarray, found: np.ndarray, speakers: Sequence[str], seed: int = 0) -> Estimate:
    """Share of clips whose emotion is recognised."""
    return mean((wanted == found).astype(np.float64), speakers, seed)


def recognised(wanted: np.ndarray, found: np.ndarray, speakers: Sequence[str], seed: int = 0) -> Estimate:
    """How many of the seven emotions are recognised in their clips more often than any other emotion."""
    rows = np.zeros((len(wanted), len(EMOTIONS) ** 2))
    rows[np.arange(len(wanted)), wanted * len(EMOTIONS) + found] = 1

    def count(sums: np.ndarray) -> np.ndarray:
        table = sums.reshape(*sums.shape[:-1], len(EMOTIONS), len(EMOTIONS))
        right = np.diagonal(table, axis1=-2, axis2=-1)
        others = np.where(np.eye(len(EMOTIONS), dtype=bool), -1, table).max(-1)
        return (right > others).sum(-1).astype(np.float64)

    return of_sums(count, rows, speakers, seed)


def confusion_table(table: np.ndarray, head: str) -> list[list[str]]:
    """Rows of text for a page."""
    rows = [[name, *map(str, counts)] for name, counts in zip(EMOTIONS, table.tolist(), strict=True)]
    return [[head, *EMOTIONS], *rows]
