"""Settings of quality control."""

from dataclasses import dataclass

from pipeline.common.extras import missing_of
from pipeline.common.options import check_ranges, option


@dataclass
class QcSettings:
    """Quality control: CPU actors that decode and judge each delivered file."""

    enabled: bool = option(
        True,
        "Check every delivered file. Without quality control no clip is rendered again with another seed, and "
        "the report has no metrics.",
    )
    workers: int = option(0, "Number of actors; 0 uses one per 4 CPUs of the cluster, at least 1.", least=0)
    num_cpus: float = option(
        1.0,
        "CPUs per actor; if the cluster has no CPUs left for the actors, they share those of the other stages.",
        least=0,
    )
    max_takes: int = option(
        2,
        "How often a clip is rendered at most, each time with another seed, while quality control fails it for a "
        "reason that another seed can fix; the best take is delivered.",
        least=1,
        most=20,
    )
    thresholds: list[str] = option(
        [],
        "Limits that replace those in pipeline/qc/README.md, such as 'lip_correlation < 0.1 review' or 'blur > off "
        "review', optionally followed by language=TAG or speaker=NAME.",
    )
    review: str = option(
        "", "CSV file with the verdicts of reviewers (see the report); empty uses review.csv in the output folder."
    )
    identity_model: str = option(
        "",
        "Face embedding model that measures identity drift: a file of torch.export.save, whose code runs when it is "
        "loaded, so it must come from a source that you trust, or safetensors of ArcFace's iresnet, which have no "
        "code; FILE#sha256=HEX refuses any other file. Without it see qc.dlib_distance.",
    )
    dlib_distance: str = option(
        "auto",
        "Identity drift by dlib's face embedding, which the extra `identity` installs: auto measures it where the "
        "extra is installed and qc.identity_model is not given; always refuses to run without the extra.",
        choices=("auto", "always", "never"),
    )
    syncnet: str = option(
        "",
        "SyncNet weights (syncnet_v2.model, or the same as safetensors) for LSE-C and LSE-D; FILE#sha256=HEX refuses "
        "any other file. Without them these metrics are not measured.",
    )

    def __post_init__(self) -> None:
        check_ranges(self)

    @property
    def measures_dlib(self) -> bool:
        """Whether `dlib_distance` applies: what `auto` means on this machine."""
        if self.dlib_distance == "auto":
            return not self.identity_model and not missing_of("identity")
        return self.dlib_distance == "always"
