"""Metrics published by other people, shown next to ours: they are not ours, and not directly comparable."""

from dataclasses import dataclass

HEADING = "Published by the authors, on other data: neither our measurements nor directly comparable"

SOURCE = (
    "Ki, Min, Chae: FLOAT, Generative Motion Latent Flow Matching for Audio-driven Talking Portrait (arXiv "
    "2412.01064, ICCV 2025). The first frame is the source; SadTalker, EDTalk and AniTalker run at 256 px."
)

METRICS = ("fid", "fvd", "csim", "e_fid", "p_fid", "lse_d", "lse_c")


@dataclass(frozen=True)
class Published:
    """One method's row."""

    method: str
    hdtf: tuple[float, ...]
    """Values by `METRICS`, on HDTF."""
    ravdess: tuple[float, ...]


TABLE = (
    Published(
        "SadTalker",
        (71.952, 339.058, 0.644, 1.914, 1.456, 7.947, 7.305),
        (119.430, 376.294, 0.644, 3.500, 2.045, 7.273, 4.748),
    ),
    Published(
        "EDTalk",
        (50.078, 211.284, 0.626, 1.579, 0.054, 8.123, 7.623),
        (75.020, 304.933, 0.676, 3.468, 0.090, 7.682, 5.318),
    ),
    Published(
        "AniTalker",
        (39.512, 184.454, 0.643, 1.830, 0.092, 7.907, 7.288),
        (70.430, 265.341, 0.725, 2.330, 0.126, 8.176, 4.555),
    ),
    Published(
        "Hallo",
        (25.363, 197.196, 0.869, 1.039, 0.037, 7.792, 7.582),
        (57.648, 375.557, 0.860, 2.492, 0.050, 7.613, 4.795),
    ),
    Published(
        "EchoMimic",
        (33.552, 296.757, 0.823, 1.234, 0.023, 8.903, 6.242),
        (81.839, 320.220, 0.805, 3.201, 0.047, 8.161, 4.144),
    ),
    Published(
        "FLOAT",
        (21.100, 162.052, 0.843, 1.229, 0.032, 7.290, 8.222),
        (31.681, 166.359, 0.810, 1.367, 0.031, 6.994, 5.730),
    ),
)
