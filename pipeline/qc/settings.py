"""Settings of quality control."""

from dataclasses import dataclass

from pipeline.common.options import check_ranges, option


@dataclass
class QcSettings:
    """Quality control: CPU actors that decode and judge each delivered file."""

    enabled: bool = option(True, "Judge every delivered file; without it no clip is retaken, and the report is bare.")
    workers: int = option(0, "Number of actors; 0 chooses one per 4 CPUs of the cluster, at least 1.", least=0)
    num_cpus: float = option(
        1.0, "CPUs of each actor; where the cluster has none left for one, it shares those of the others.", least=0
    )
    max_takes: int = option(
        2,
        "Times that a clip is rendered at most, with another seed each time, while quality control fails it for what a "
        "seed can change; the best take is delivered.",
        least=1,
        most=20,
    )
    thresholds: list[str] = option(
        [],
        "Limits instead of those in pipeline/qc/README.md: 'lip_correlation < 0.1 review', 'blur > off review', and "
        "maybe language=TAG or speaker=NAME after it.",
    )
    review: str = option("", "CSV file of people's verdicts (see the report); none takes review.csv of the output.")
    identity_model: str = option(
        "", "Model of face embeddings (torch.export.save), for the drift of identity; none measures none."
    )
    syncnet: str = option("", "SyncNet's weights (syncnet_v2.model), for LSE-C and LSE-D; none measures none.")

    def __post_init__(self) -> None:
        check_ranges(self)
