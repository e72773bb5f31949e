"""Delivery presets: what a delivered file is, from its codec to its sound.

A preset is a named set of choices. Of these, a person may choose another container or sound that fits it, and for the
codecs that lose much, quality and speed (`VideoSettings`).
"""

from dataclasses import dataclass

from pipeline.common.options import SettingError
from pipeline.media.pixel_layout import YUV420P, YUV420P10, YUV422P, YUV422P10, YUV444P10, YUVA444P10, PixelLayout

BT709 = 1
"""Code of BT.709 in ITU-T H.273, for primaries, transfer function and matrix alike."""
LIMITED_RANGE = 1
"""AVCOL_RANGE_MPEG: luma 16..235."""

PCM_RATE = 48_000
"""Sample rate of PCM in delivered files, Hz, which the MXF of FFmpeg asks for."""

COPY = "copy"
"""The sound of a file that has the packets of its source, whatever they are."""


@dataclass(frozen=True)
class Container:
    """A kind of file."""

    suffix: str
    muxer: str
    """FFmpeg's name."""
    mime: str
    marked: str
    """How the file says that it is AI-generated, for the row: `xmp`, or `comment` where XMP has no place."""
    copies: tuple[str, ...]
    """FFmpeg's names of the audio codecs that are passed through unchanged: those that it may have by its standard or,
    in MOV, by Apple's specification, and that players and editors read there.
    """


_COMPRESSED = ("aac", "mp3", "ac3", "eac3", "alac")
_PCM = ("pcm_s16le", "pcm_s24le")
MP4 = Container(".mp4", "mp4", "video/mp4", "xmp", (*_COMPRESSED, "flac", "opus"))
MOV = Container(".mov", "mov", "video/quicktime", "xmp", (*_COMPRESSED, *_PCM, "pcm_s16be", "pcm_s24be"))
MXF = Container(".mxf", "mxf", "application/mxf", "comment", _PCM)
CONTAINERS = {one.muxer: one for one in (MP4, MOV, MXF)}
SUFFIXES = tuple(one.suffix for one in CONTAINERS.values())
"""Of all delivered files, in this and in earlier versions."""


@dataclass(frozen=True)
class Preset:
    """What a file is that is delivered with this name."""

    name: str
    encoder: str
    """FFmpeg's name. For `web` it is that of `video.encoder`."""
    layout: PixelLayout
    codec: str
    """FFmpeg's name of the codec in the file."""
    profiles: tuple[str, ...]
    """Profiles that the file may have, as FFmpeg reports them; empty if the codec has none."""
    containers: tuple[Container, ...]
    """That it can be in; the first is used unless another one is chosen."""
    sounds: tuple[str, ...]
    """`aac` or `pcm` (24 bit, 48 kHz); the first is used unless the other one is chosen."""
    options: tuple[tuple[str, str], ...] = ()
    """Of the encoder."""
    decoded: str = ""
    """Pixel format that FFmpeg's decoder gives, if it is not that of the layout."""
    least: tuple[int, int] = (16, 16)
    """Smallest width and height of pictures that the encoder takes, px."""
    tag: str = ""
    """Tag of the stream in MP4 and MOV, if it is not the muxer's own choice."""
    played: bool = False
    """Whether browsers play it."""

    @property
    def has_quality(self) -> bool:
        """Whether a person chooses its quality and speed: the other codecs have theirs by the profile."""
        return self.encoder in ("libx264", "libx265", "libsvtav1")

    @property
    def decoded_format(self) -> str:
        """Pixel format of decoded frames."""
        return self.decoded or self.layout.name


PRESETS = {
    one.name: one
    for one in (
        Preset(
            "web",
            "libx264",
            YUV420P,
            "h264",
            ("Constrained Baseline", "Baseline", "Main", "High"),  # which browsers, QuickTime and phones play
            (MP4, MOV),
            ("aac", "pcm"),
            played=True,
        ),
        # Apple's players take only the tag hvc1.
        Preset(
            "hevc", "libx265", YUV420P10, "hevc", ("Main 10",), (MP4, MOV), ("aac", "pcm"), tag="hvc1", least=(32, 32)
        ),
        Preset("av1", "libsvtav1", YUV420P10, "av1", ("Main",), (MP4,), ("aac",), played=True, least=(64, 64)),
        Preset(
            "prores_422_hq",
            "prores_ks",
            YUV422P10,
            "prores",
            ("HQ",),
            (MOV, MXF),
            ("pcm", "aac"),
            (("profile", "hq"), ("vendor", "apl0")),
        ),
        Preset(
            "prores_4444",
            "prores_ks",
            YUVA444P10,
            "prores",
            ("4444",),
            (MOV,),
            ("pcm", "aac"),
            (("profile", "4444"), ("vendor", "apl0"), ("alpha_bits", "16")),
            decoded="yuva444p12le",
        ),
        Preset(
            "dnxhr_hq",
            "dnxhd",
            YUV422P,  # 8 bits are all that DNxHR HQ has
            "dnxhd",
            ("DNXHR HQ",),
            (MXF, MOV),
            ("pcm", "aac"),
            (("profile", "dnxhr_hq"),),
            least=(256, 120),
        ),
        # In MXF, FFmpeg leaves out the range of 4:4:4, which readers then take for full.
        Preset(
            "dnxhr_444",
            "dnxhd",
            YUV444P10,
            "dnxhd",
            ("DNXHR 444",),
            (MOV,),
            ("pcm", "aac"),
            (("profile", "dnxhr_444"),),
            least=(256, 120),
        ),
        Preset(
            "ffv1",
            "ffv1",
            YUV444P10,
            "ffv1",
            (),
            (MXF,),  # RDD 48; FFmpeg writes it into neither MOV nor MP4
            ("pcm",),
            (("level", "3"), ("slicecrc", "1")),
        ),
    )
}


@dataclass(frozen=True)
class FileFormat:
    """A preset with the container and the sound that were chosen."""

    preset: Preset
    container: Container
    sound: str
    """`aac`, `pcm` or `copy`."""

    @property
    def sound_codecs(self) -> tuple[str, ...]:
        """FFmpeg's names of the codecs that its sound may have."""
        return {"aac": ("aac",), "pcm": ("pcm_s24le",)}.get(self.sound, self.container.copies)

    @property
    def layout(self) -> PixelLayout:
        """How the frames for the encoder lie in memory."""
        return self.preset.layout


WEB = FileFormat(PRESETS["web"], MP4, "aac")


def file_format(preset: str, container: str = "", sound: str = "") -> FileFormat:
    """The format of a preset; an empty container or sound is the preset's own.

    Raises SettingError for a container or sound that does not fit it.
    """
    chosen = PRESETS[preset]
    containers = {one.muxer: one for one in chosen.containers}
    if container and container not in containers:
        raise SettingError("container", f"{preset} is delivered in {' or '.join(containers)}, not in {container}")
    place = containers[container] if container else chosen.containers[0]
    sounds = ("pcm",) if place == MXF else ("aac",) if place is MP4 else chosen.sounds
    if sound == COPY:
        return FileFormat(chosen, place, COPY)
    if sound and sound not in sounds:
        raise SettingError("audio", f"{preset} in {place.muxer} has {' or '.join(sounds)} sound, not {sound}")
    return FileFormat(chosen, place, sound or next(one for one in chosen.sounds if one in sounds))


def size_problem(form: FileFormat, width: int, height: int) -> str:
    """Why pictures of this size cannot be delivered in this format, as a sentence; empty if they can."""
    least, name = form.preset.least, form.preset.name
    if width < least[0] or height < least[1]:
        return (
            f"{name} needs pictures of at least {least[0]} x {least[1]} px, but the clip has {width} x {height}: set "
            "another video.preset"
        )
    if not form.layout.fits(width, height):
        return f"{name} needs even sides, but the clip has {width} x {height} px"
    return ""
