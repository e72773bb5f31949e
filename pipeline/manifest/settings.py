"""Settings of the manifest: the defaults of its rows, and which clips need a consent."""

from dataclasses import dataclass

from pipeline.common.options import SettingError, check_ranges, option
from pipeline.face.choice import parse_choice
from pipeline.manifest.silence import SILENCE
from pipeline.media.slot import ON_LENGTH

LONGEST_FADE = 10.0
"""Longest cross-fade between emotions or head poses, s."""


@dataclass
class ClipDefaults:
    """The values that a manifest row gets if it does not specify them."""

    seed: int = option(0, "Seed of the motion noise; the same seed gives the same motion.", least=0, most=2**63 - 1)
    nfe: int = option(
        0,
        "Evaluations of the transformer per 2 s window; 0 uses the model's default: 10, or 50 for diffusion models.",
        least=0,
        most=1000,
    )
    a_cfg_scale: float = option(
        2.0, "Strength of the guidance by speech: higher values move the mouth more.", least=0, most=20
    )
    e_cfg_scale: float = option(
        1.0,
        "Strength of the guidance by emotion: higher values show the emotion more clearly. It has no effect in a "
        "model without an emotion condition.",
        least=0,
        most=20,
    )
    r_cfg_scale: float = option(
        1.0, "Strength of the guidance by the portrait's own motion latent; the paper uses 1.", least=0, most=20
    )
    emotion_fade: float = option(
        0.3,
        "Seconds in which the emotion passes into a span of the column emotion and out of it; 0 changes it from one "
        "frame to the next.",
        least=0,
        most=LONGEST_FADE,
    )
    silence: str = option(
        "model",
        "What the mouth does in the pauses of the audio: model leaves it to the model; closed rests it there while "
        "head, blinks and emotion go on; idle also lets the model hear silence there, whatever the recording has.",
        choices=SILENCE,
    )
    pose_fade: float = option(
        0.5,
        "Seconds in which the head turns at the start and the end of a span of the column pose; 0 turns it from one "
        "frame to the next.",
        least=0,
        most=LONGEST_FADE,
    )
    crop: str = option(
        "auto",
        "auto detects the face and crops around it; none uses a square image as it is.",
        choices=("auto", "none"),
    )
    face: str = option(
        "largest",
        "Which face of an image with several: largest; only, which rejects an image with several; a number from the "
        "left (2), a point in pixels (640,360) or a box (600,300,700,420).",
    )
    on_length: str = option(
        "refuse",
        "What happens to a clip whose audio needs another number of frames than its row gives (column frames), by more "
        "than one: refuse rejects it; pad fills up a shorter one with silence and idle motion; trim cuts a longer one.",
        choices=ON_LENGTH,
    )

    def __post_init__(self) -> None:
        check_ranges(self)
        try:
            parse_choice(self.face)
        except ValueError as error:
            raise SettingError("face", str(error)) from None


@dataclass
class ConsentSettings:
    """Which clips are rendered only with a consent (`pipeline.manifest.consent`)."""

    speakers: list[str] = option(
        [], "Speakers (column speaker) whose clips need a consent_ref from the register; ['*'] means every clip."
    )
    register: str = option(
        "", "CSV or JSONL file, local or s3://, with the columns consent_ref, speaker, expires and revoked."
    )

    def __post_init__(self) -> None:
        if self.speakers and not self.register:
            raise SettingError(
                "register",
                "speakers are listed who need a consent, but there is no register of consents: give its file",
            )
        if self.register and not self.speakers:
            raise SettingError(
                "speakers",
                "a register is given, but no speaker is listed who needs a consent: list the speakers, or ['*'] "
                "for all",
            )
