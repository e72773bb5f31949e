"""Settings of the delivered file and of its provenance."""

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from pipeline.common.options import SettingError, check_ranges, option
from pipeline.media.presets import CONTAINERS, COPY, PRESETS, WEB, FileFormat, file_format

SPEEDS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
"""Presets of x264, from fastest to smallest file."""


@dataclass
class VideoSettings:
    """The delivered file: a preset and what is changed in it. BT.709 in limited range, constant frame rate."""

    preset: str = option(
        "web",
        "What is delivered: web is H.264 with AAC in MP4; hevc and av1 (10 bit) are smaller files for newer players; "
        "prores_422_hq, prores_4444 (with alpha), dnxhr_hq, dnxhr_444 and ffv1 (lossless) are files for editing and "
        "archives with PCM sound (24 bit, 48 kHz). jobs/README.md has the table.",
        choices=tuple(PRESETS),
        why="speeds of an encoder, such as veryfast, are values of video.speed",
    )
    container: str = option(
        "", "Container, if it is not the preset's own: mp4, mov or mxf (OP1a).", choices=("", *CONTAINERS)
    )
    audio: str = option(
        "",
        "Sound, if it is not the preset's own: aac, or pcm of 24 bit and 48 kHz; copy passes the packets of the audio "
        "file through unchanged, and rejects a clip whose container cannot have them.",
        choices=("", "aac", "pcm", COPY),
    )
    fps: str = option(
        "25",
        "Frame rate as a number or a fraction such as 30000/1001; motion is resampled from 25 fps. A broadcast rate "
        "may be rounded: 23.976 and 23.98 mean 24000/1001, and 29.97 means 30000/1001.",
    )
    encoder: str = option(
        "libx264",
        "Encoder of the preset web: libx264 produces the same video on every node, with or without a GPU, so it is the "
        "default for deliveries; h264_nvenc is the GPU's encoder (not available on A100 or H100, and never run by this "
        "project) and fails on nodes without one; auto uses h264_nvenc where it works and libx264 elsewhere, so a job "
        "on mixed nodes delivers both kinds.",
        choices=("auto", "libx264", "h264_nvenc"),
    )
    encoder_threads: int = option(
        1,
        "Encoder threads per clip. Several clips are encoded at once, so one thread each gives the most frames per "
        "CPU; 2 threads finish a single clip sooner.",
        least=1,
        most=64,
    )
    crf: int = option(
        18,
        "Quality of web, hevc and av1 on x264's scale (cq for NVENC; AV1's scale of 63 is 63/51 as long): lower values "
        "give better quality and larger files.",
        least=1,
        most=51,
        why="0 would be lossless H.264 (profile High 4:4:4), which browsers, QuickTime and phones do not play",
    )
    speed: str = option(
        "veryfast",
        "x264's preset of speed, for web and hevc; it is mapped to p1 to p7 for NVENC and to 12 to 4 for av1.",
        choices=SPEEDS,
    )
    audio_kbps: int = option(192, "AAC bit rate, kbit/s.", least=32, most=512)
    queue_frames: int = option(
        64,
        "Most decoded frames per clip that may wait for the encoder; large ones are bounded by the next key.",
        least=1,
    )
    queue_megabytes: float = option(
        128.0,
        "Most memory that they may take, MB: 41 frames of 1920 x 1080 and 10 of 3840 x 2160 in 8 bit 4:2:0. One frame "
        "may always wait.",
        least=0.001,
    )
    frame: str = option(
        "crop",
        "Frame of the clips whose row does not say it: crop delivers the animated square as the model makes it; full "
        "puts it back into the original picture.",
        choices=("crop", "full"),
    )
    width: int = option(0, "Width of full frames, px, an even number; 0 keeps the picture's.", least=0, most=8192)
    height: int = option(0, "Height of full frames, px, an even number; 0 keeps the picture's.", least=0, most=8192)
    fit: str = option(
        "fit",
        "With both width and height: fit makes full frames as large as fits into this size in the picture's aspect "
        "ratio; pad adds black bars, so that frames have exactly this size.",
        choices=("fit", "pad"),
    )
    hold_rim: float = option(
        1.0,
        "Full frames: how far what moves near the rim of the animated square is pulled back to where it is in the "
        "picture, from 0 (not at all) to 1. It keeps neck, hair and shoulders connected, and bends what is between "
        "them and the face.",
        least=0,
        most=1,
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        parse_fps(self.fps)
        _ = self.format
        for name in ("width", "height"):
            side = getattr(self, name)
            if side % 2 or 0 < side < 64:
                raise SettingError(name, f"{side} is not allowed; it must be 0, or an even number from 64 on")
        if self.fit == "pad" and not (self.width and self.height):
            raise SettingError("fit", "pad needs both video.width and video.height")

    @property
    def framing(self) -> dict[str, Any]:
        """The settings that only full frames have, by their names in messages and fingerprints."""
        return {f"video.{name}": getattr(self, name) for name in ("width", "height", "fit", "hold_rim")}

    @property
    def format(self) -> FileFormat:
        """What a file is that these settings deliver. Raises SettingError for what does not fit the preset."""
        return file_format(self.preset, self.container, self.audio)

    def with_preset(self, name: str | None) -> "VideoSettings":
        """These settings for a row that names its own preset; None is no name. Raises SettingError for what does not
        fit it.
        """
        return self if name in (None, self.preset) else replace(self, preset=name)

    @property
    def file_parts(self) -> dict[str, Any]:
        """What decides how a file is encoded, by names in fingerprints.

        For `web` it is what older versions have, where the speed was `preset`.
        """
        known: dict[str, Any] = {f"video.{name}": getattr(self, name) for name in ("encoder", "crf", "audio_kbps")}
        known["video.preset"] = self.speed
        form = self.format
        if form == WEB:
            return known
        parts: dict[str, Any] = {"video.file": [form.preset.name, form.container.muxer, form.sound]}
        if form.sound == "aac":
            parts["video.audio_kbps"] = self.audio_kbps
        if form.preset.name == "web":
            return known | parts
        return parts | ({"video.crf": self.crf, "video.speed": self.speed} if form.preset.has_quality else {})


@dataclass
class ProvenanceSettings:
    """The provenance of delivered files.

    All of them are marked as AI-generated, and with a certificate they are also signed.
    """

    certificate: str = option(
        "",
        "Sign each file (C2PA) with this certificate chain: a PEM file with the signer's certificate first, at this "
        "path or URI on every node. Signing needs c2pa-python.",
    )
    private_key: str = option(
        "", "Private key of the certificate: a PEM file (PKCS#8, no password), also on every node."
    )
    algorithm: str = option(
        "es256",
        "Signature algorithm of the key.",
        choices=("es256", "es384", "es512", "ps256", "ps384", "ps512", "ed25519"),
    )
    timestamp_url: str = option(
        "",
        "URL of a time-stamping authority (RFC 3161); with it, signatures stay valid after the certificate has "
        "expired.",
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        if bool(self.certificate) != bool(self.private_key):
            given, missing = ("certificate", "private_key")[:: 1 if self.certificate else -1]
            raise SettingError(missing, f"only {given} is given, but signing needs both: give this too, or neither")
        if self.timestamp_url and not self.timestamp_url.startswith(("http://", "https://")):
            raise SettingError("timestamp_url", f"{self.timestamp_url!r} is not an http or https address")

    @property
    def signs(self) -> bool:
        """Whether files are signed."""
        return bool(self.certificate)


def parse_fps(text: str) -> Fraction:
    """The frame rate as a fraction. Raises SettingError unless it is in 1..120.

    A number with two or more decimals that is n*1000/1001 rounded or cut off there, for a whole n, is a rate of
    broadcasting, and becomes exactly that: 29.97 is 30000/1001. A fraction is taken as it is.
    """
    try:
        fps = Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise SettingError(
            "fps", f"{text!r} is not a frame rate; give a number or a fraction, such as 25 or 30000/1001"
        ) from None
    if not 1 <= fps <= 120:
        raise SettingError("fps", f"{text!r} is not allowed; it must be 1 to 120")
    decimals = re.fullmatch(r"\s*\+?\d+\.(\d{2,})\s*", text)
    if decimals and fps.denominator > 1:  # 5.00 is the rounded 5000/1001 too, but means 5
        unit = Fraction(1, 10 ** len(decimals[1]))
        exact = Fraction(round(fps * 1001 / 1000) * 1000, 1001)
        if exact // unit * unit <= fps <= exact + unit / 2:
            return exact
    return fps
