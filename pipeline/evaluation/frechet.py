"""Fréchet distance between two sets of features, from their means and covariances, in bounded memory.

For normal distributions it is d^2 = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)) (Dowson and Landau 1982); between
features of an Inception network it is the FID (Heusel 2017).
"""

from dataclasses import dataclass

import numpy as np

CHUNK = 4096
"""Number of rows that are added at a time: features of a long video are read from a file on disk."""


@dataclass(eq=False)
class Moments:
    """Number, mean and scatter of rows of D features in float64; the order of adding and merging does not matter.

    The scatter is the sum of the outer products of the rows minus their mean, updated as in Chan, Golub and LeVeque
    (1983), which does not lose digits if the mean is large.
    """

    count: int
    mean: np.ndarray
    """(D,)."""
    scatter: np.ndarray
    """(D,D)."""

    @classmethod
    def zero(cls, dimension: int) -> "Moments":
        """Moments of no rows."""
        return cls(0, np.zeros(dimension), np.zeros((dimension, dimension)))

    @property
    def dimension(self) -> int:
        """D."""
        return len(self.mean)

    def add(self, rows: np.ndarray) -> None:
        """Add rows (N,D)."""
        for start in range(0, len(rows), CHUNK):
            part = np.asarray(rows[start : start + CHUNK], dtype=np.float64)
            mean = part.mean(0)
            about = part - mean
            self._take(len(part), mean, about.T @ about)

    def merge(self, other: "Moments") -> None:
        """Add the rows of `other`."""
        if other.count:
            self._take(other.count, other.mean, other.scatter)

    def _take(self, count: int, mean: np.ndarray, scatter: np.ndarray) -> None:
        total = self.count + count
        away = mean - self.mean
        self.scatter += scatter
        self.scatter += np.outer(away, away) * (self.count * count / total)
        self.mean = self.mean + away * (count / total)
        self.count = total

    @property
    def covariance(self) -> np.ndarray:
        """(D,D), the unbiased estimate. Raises ValueError for fewer than two rows."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least two samples, but there are {self.count}")
        return self.scatter / (self.count - 1)


def frechet_distance(one: Moments, other: Moments) -> float:
    """d^2 of two sets. Raises ValueError if a set has fewer than two rows.

    The trace of (S1 S2)^(1/2) equals that of the symmetric (S1^(1/2) S2 S1^(1/2))^(1/2), whose eigenvalues are real.
    There are no imaginary parts to cut off, and no offset is needed if a covariance is singular.
    """
    root = _root(one.covariance)
    second = other.covariance
    inner = root @ second @ root
    between = np.sqrt(np.linalg.eigvalsh((inner + inner.T) / 2).clip(0)).sum()
    away = one.mean - other.mean
    distance = float(away @ away + np.trace(one.covariance) + np.trace(second) - 2 * between)
    return max(0.0, distance)  # rounding can give -1e-10 for a set and itself


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(values.clip(0))) @ vectors.T
