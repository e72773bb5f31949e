"""Settings of the manifest: defaults of its rows, and whose clips need a consent."""

from dataclasses import dataclass

from pipeline.common.options import SettingError, check_ranges, option


@dataclass
class ClipDefaults:
    """What a manifest row gets where it says nothing."""

    seed: int = option(0, "Seed of the motion noise; the same seed gives the same motion.", least=0, most=2**63 - 1)
    nfe: int = option(
        0, "Evaluations of the transformer per 2 s window; 0 takes the model's: 10, diffusion 50.", least=0, most=1000
    )
    a_cfg_scale: float = option(2.0, "Guidance by speech: higher moves the mouth more.", least=0, most=20)
    e_cfg_scale: float = option(
        1.0,
        "Guidance by emotion: higher shows it more; does nothing in a model without emotion condition.",
        least=0,
        most=20,
    )
    r_cfg_scale: float = option(
        1.0, "Guidance by the portrait's own motion latent; 1 is the paper's.", least=0, most=20
    )
    crop: str = option(
        "auto", "auto finds the face and crops; none takes a square image as it is.", choices=("auto", "none")
    )

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass
class ConsentSettings:
    """Whose clips are rendered only with a consent (`pipeline.manifest.consent`)."""

    speakers: list[str] = option(
        [], "Speakers (column speaker) whose clips need a consent_ref of the register; ['*'] means every clip."
    )
    register: str = option(
        "", "CSV or JSONL file, local or s3://, with the columns consent_ref, speaker, expires, revoked."
    )

    def __post_init__(self) -> None:
        if self.speakers and not self.register:
            raise SettingError("register", "speakers need a consent, and no register says who gave one: name its file")
        if self.register and not self.speakers:
            raise SettingError("speakers", "a register is given, and no speaker needs a consent: name some, or ['*']")
