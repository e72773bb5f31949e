"""The gate: what an engine must have in common with the plain float32 model before it may render."""

import math

import numpy as np
from torch import Tensor

LEAST_PSNR = 45.0
"""dB, of the worst frame, over all samples of the delivered Y'CbCr."""
MOST_MOTION_ERROR = 0.02
"""Relative error (L2 norm) of a window of motion latents."""
MOST_DIFFERENCE = 1
"""Of 255, between two runs of one engine."""
MOST_MEMORY = 0.7
"""Share of the memory that belongs to an actor; other clips and portraits need the rest."""
EXACT = 100.0
"""dB that stand for frames without a difference."""


def worst_psnr(frames: np.ndarray, reference: np.ndarray, bits: int = 8) -> float:
    """PSNR of the worst frame, dB, at most EXACT; both (N,...) of samples with so many bits."""
    difference = frames.astype(np.float32) - reference.astype(np.float32)
    worst = float(np.square(difference).reshape(len(frames), -1).mean(axis=1).max())
    return EXACT if worst == 0 else min(EXACT, 10 * math.log10((255 << bits - 8) ** 2 / worst))


def motion_error(motion: Tensor, reference: Tensor) -> float:
    """||motion - reference|| / ||reference||; NaN if the motion is not finite."""
    return float((motion - reference).norm() / reference.norm().clamp(min=1e-12))


def frames_problem(frames: np.ndarray, again: np.ndarray, reference: np.ndarray, bits: int = 8) -> str:
    """Why frames (N,...) of an engine, decoded twice, are refused; empty if they are accepted."""
    if frames.shape != reference.shape or again.shape != reference.shape:
        return f"it gave frames of the shape {frames.shape} instead of {reference.shape}"
    if (psnr := worst_psnr(frames, reference, bits)) < LEAST_PSNR:
        return f"its worst frame has {psnr:.1f} dB, and {LEAST_PSNR:g} dB are required"
    if np.abs(frames.astype(np.int32) - again).max() > MOST_DIFFERENCE << bits - 8:
        return "its frames differ from run to run"
    return ""


def motion_problem(motion: Tensor, again: Tensor, reference: Tensor) -> str:
    """Why motion (L,D) of an engine, sampled twice, is refused; empty if it is accepted."""
    if motion.shape != reference.shape or again.shape != reference.shape:
        return f"it gave motion of the shape {tuple(motion.shape)} instead of {tuple(reference.shape)}"
    if not (motion.isfinite().all() and again.isfinite().all()):
        return "its motion is not finite"
    if (error := motion_error(motion, reference)) > MOST_MOTION_ERROR:
        return f"its motion has an error of {error:.1%}, and {MOST_MOTION_ERROR:.0%} are allowed"
    if motion_error(again, motion) > MOST_MOTION_ERROR / 10:
        return "its motion differs from run to run"
    return ""


def memory_problem(peak: int, available: int) -> str:
    """Why a peak of memory is refused, both in bytes; empty if it is accepted, or if `available` is 0: not known."""
    if available and peak > MOST_MEMORY * available:
        return f"it took {peak / available:.0%} of the memory, and {MOST_MEMORY:.0%} are allowed"
    return ""
