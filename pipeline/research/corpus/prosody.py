"""Loudness and pitch of a voice, frame by frame, which drive the head and the brows."""

import numpy as np

from models import SAMPLE_RATE
from models.config import SAMPLES_PER_FRAME
from pipeline.measure.lip_correlation import vertex

FLOOR_DB = -80.0
LOWEST_HZ, HIGHEST_HZ = 60.0, 500.0
WINDOW = 1024
"""Samples, 64 ms: two to three periods of a low voice."""
VOICED = 0.5
"""Smallest normalised autocorrelation of a voiced frame."""
FIRST_PEAK = 0.85
"""Of several peaks, the earliest that reaches this share of the highest is used, because two periods correlate as well
as one.
"""


def levels(wave: np.ndarray) -> np.ndarray:
    """(T*640,) -> level of each frame (T,) float64, dBFS (RMS), at least `FLOOR_DB`."""
    frames = wave[: len(wave) // SAMPLES_PER_FRAME * SAMPLES_PER_FRAME].reshape(-1, SAMPLES_PER_FRAME)
    rms = np.sqrt((frames.astype(np.float64) ** 2).mean(1))
    return 20 * np.log10(np.maximum(rms, 10 ** (FLOOR_DB / 20)))


def pitches(wave: np.ndarray) -> np.ndarray:
    """(T*640,) -> fundamental frequency of each frame (T,) float64, Hz; NaN if it is unvoiced.

    It uses the autocorrelation of a window around the middle of the frame, divided by that of the window itself, which
    removes its decay (Boersma 1993).
    """
    count = len(wave) // SAMPLES_PER_FRAME
    edge = (WINDOW - SAMPLES_PER_FRAME) // 2
    padded = np.pad(wave.astype(np.float64), (edge, WINDOW))
    taper = np.hanning(WINDOW)
    pieces = np.stack([padded[n * SAMPLES_PER_FRAME :][:WINDOW] for n in range(count)])
    pieces = (pieces - pieces.mean(1, keepdims=True)) * taper
    low, high = int(SAMPLE_RATE / HIGHEST_HZ), int(SAMPLE_RATE / LOWEST_HZ)
    similar = _autocorrelation(pieces)[:, : high + 2]
    similar /= np.maximum(similar[:, :1], 1e-9) * _autocorrelation(taper[None] / np.linalg.norm(taper))[:, : high + 2]
    found = np.full(count, np.nan)
    loud = levels(wave)
    for n in np.flatnonzero((loud > loud.max(initial=FLOOR_DB) - 35) & (loud > FLOOR_DB)):
        row = similar[n]
        peaks = 1 + np.flatnonzero((row[1:-1] >= row[:-2]) & (row[1:-1] > row[2:]))
        peaks = peaks[(peaks >= low) & (peaks <= high)]
        if len(peaks) and row[peaks].max() >= VOICED:
            lag = int(peaks[row[peaks] >= FIRST_PEAK * row[peaks].max()][0])
            found[n] = SAMPLE_RATE / (lag + vertex(row, lag))
    return found


def _autocorrelation(rows: np.ndarray) -> np.ndarray:
    """(n,WINDOW) -> (n,WINDOW), lags from 0."""
    spectrum = np.fft.rfft(rows, 2 * WINDOW)
    return np.fft.irfft(np.abs(spectrum) ** 2)[:, :WINDOW]
