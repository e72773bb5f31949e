"""All metrics of an evaluation: column, unit, definition and source. The table in README.md is generated from this."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """One metric of a pair, or of a system's whole set of videos."""

    column: str
    name: str
    unit: str
    text: str
    """Its definition."""
    source: str
    better: Literal["higher", "lower", "as the reference", ""]
    network: str = ""
    """Setting for the network that it needs."""
    features: str = ""
    """For a distance between sets: the features (`watch.KINDS`) that it compares."""
    of_video: bool = False
    """Whether it is a metric of a single video; the reference's own value is then in `reference_<column>`."""

    @property
    def told(self) -> str:
        """Its unit, and which values are better."""
        return ", ".join(filter(None, (self.unit, AIMS[self.better])))


AIMS = {"higher": "higher is better", "lower": "lower is better", "as the reference": "as the real videos", "": ""}

OURS = "our own metric"

PAIR_METRICS = (
    Metric(
        "psnr",
        "PSNR",
        "dB",
        "10 log10(255^2 / MSE) of luma, Y' from 0 to 255; MSE is the mean over all compared frames.",
        "usual definition",
        "higher",
    ),
    Metric(
        "ssim",
        "SSIM",
        "",
        "Structural similarity of luma, Y' from 0 to 255: Gaussian windows of 11x11 with sigma 1.5 that lie inside "
        "the frame, K1 = 0.01, K2 = 0.03; mean over the frames.",
        "Wang 2004",
        "higher",
    ),
    Metric(
        "lmd",
        "LMD",
        "eye distances",
        "Mean distance of the 468 landmarks from those of the reference, after each face is centred and divided by "
        "the distance between its outer eye corners.",
        "after Chen 2018, with FaceMesh's landmarks",
        "lower",
    ),
    Metric(
        "m_lmd",
        "M-LMD",
        "eye distances",
        "The same for the 40 landmarks of the lips, after the lips are centred.",
        "after Chen 2018, with FaceMesh's landmarks",
        "lower",
    ),
    Metric(
        "mouth_correlation",
        "mouth correlation",
        "",
        "Pearson correlation between the mouth openings of both videos, at the lag within 0.5 s where it is highest.",
        OURS,
        "higher",
    ),
    Metric(
        "mouth_lag_ms",
        "mouth lag",
        "ms",
        "That lag; positive if the generated mouth is late. It is accurate to one frame, and means nothing where the "
        "correlation is low.",
        OURS,
        "",
    ),
    Metric(
        "csim",
        "CSIM",
        "cosine",
        "Mean cosine similarity between the identity embeddings of the generated and the reference face, frame by "
        "frame.",
        "ArcFace (Deng 2019)",
        "higher",
        network="identity_model",
    ),
    Metric(
        "dlib_distance",
        "dlib face distance",
        "",
        "Mean Euclidean distance between dlib's embeddings of the generated and the reference face, twice per second. "
        "It is not CSIM, and neither follows from the other.",
        "King 2017 (dlib)",
        "lower",
        network="dlib_distance",
    ),
    Metric(
        "lse_d",
        "LSE-D",
        "",
        "SyncNet's distance between lips and audio (pipeline/measure/syncnet.py).",
        "Prajwal 2020",
        "lower",
        network="syncnet",
        of_video=True,
    ),
    Metric(
        "lse_c",
        "LSE-C",
        "",
        "SyncNet's confidence.",
        "Prajwal 2020",
        "higher",
        network="syncnet",
        of_video=True,
    ),
    Metric(
        "lse_offset",
        "LSE offset",
        "frames",
        "SyncNet's offset at 25 fps; positive if the audio is early.",
        "Chung 2016",
        "",
        network="syncnet",
        of_video=True,
    ),
    Metric(
        "pause_motion",
        "silent-lip movement",
        "share",
        "Variation of the mouth opening in pauses of 0.5 s and more (the largest), relative to its variation in the "
        "whole video; standard deviations (pipeline/measure/lip_correlation.py).",
        OURS,
        "lower",
        of_video=True,
    ),
    Metric(
        "motion_range_deg",
        "head-motion range",
        "degrees",
        "The largest of the ranges (5 % to 95 %) of yaw, pitch and roll, from landmarks "
        "(pipeline/measure/head_motion.py).",
        OURS,
        "as the reference",
        of_video=True,
    ),
    Metric(
        "face_share",
        "face share",
        "share",
        "Share of the frames in which a face is detected.",
        OURS,
        "higher",
        of_video=True,
    ),
    Metric(
        "duration_mismatch_s",
        "duration mismatch",
        "s",
        "Duration of the generated video minus that of the reference.",
        OURS,
        "",
    ),
)

SET_METRICS = (
    Metric(
        "fid",
        "FID",
        "",
        "Fréchet distance between the Inception features of all frames, references against generated videos.",
        "Heusel 2017",
        "lower",
        network="inception",
        features="inception",
    ),
    Metric(
        "fvd",
        "FVD",
        "",
        "Fréchet distance between the I3D features of consecutive clips of 16 frames, 224x224.",
        "Unterthiner 2018",
        "lower",
        network="i3d",
        features="i3d",
    ),
    Metric(
        "e_fid",
        "E-FID",
        "",
        "Fréchet distance between the expression coefficients of all frames with a face.",
        "Tian 2024 (EMO)",
        "lower",
        network="expression",
        features="expression",
    ),
    Metric(
        "p_fid",
        "P-FID",
        "",
        "Fréchet distance between the head poses of all frames with a face, from the network of pose_model.",
        "Ki 2024 (FLOAT)",
        "lower",
        network="pose_model",
        features="pose_model",
    ),
    Metric(
        "pose_distance_landmarks",
        "pose distance from landmarks",
        "degrees^2",
        "Fréchet distance between yaw, pitch and roll, from landmarks fitted to our face mesh. It is not P-FID, and "
        "not comparable with it.",
        OURS,
        "lower",
        features="poses",
    ),
)

ALL = (*PAIR_METRICS, *SET_METRICS)
"""In the order of the tables."""


def metric_table() -> str:
    """All metrics as Markdown, for the end of `pipeline/evaluation/README.md`."""
    lines = ["| column | name | unit | definition | better | source | needs |", "|---|---|---|---|---|---|---|"]
    for metric in ALL:
        needs = f"`{metric.network}=`" if metric.network else ""
        cells = (f"`{metric.column}`", metric.name, metric.unit, metric.text, metric.better, metric.source, needs)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
