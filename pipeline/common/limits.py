"""Bounds on the inputs of a job."""

from dataclasses import dataclass

import fsspec

from pipeline.common.options import SettingError, check_ranges, option

MAX_ROWS = 5_000_000
"""Rows of a table, where no setting says otherwise."""


@dataclass
class Limits:
    """Bounds on inputs, checked before they are decoded where the format allows it."""

    allowed_schemes: list[str] = option(["file", "s3"], "URI schemes that inputs may use; file includes plain paths.")
    input_prefixes: list[str] = option(
        [],
        "Folders (absolute paths or URIs) that inputs must be in, after links are resolved; an empty list allows "
        "every folder.",
    )
    max_rows: int = option(
        MAX_ROWS, "Most rows of a manifest, a register of consents or another table that the job reads.", least=1
    )
    max_file_megabytes: float = option(2000.0, "Largest size of an input file.", least=0)
    max_image_megapixels: float = option(100.0, "Largest number of pixels in an image.", least=0)
    min_image_side: int = option(64, "Smallest side length of an image, px.", least=1)
    max_yaw: float = option(
        42.0,
        "Largest turn of a portrait's face to the side, in degrees as the landmarks tell, which are too few beyond 40; "
        "90 allows every face that is found.",
        least=0,
    )
    min_audio_seconds: float = option(0.1, "Shortest allowed audio.", least=0)
    max_audio_minutes: float = option(120.0, "Longest allowed audio.", least=0)
    allow_silence: bool = option(False, "Render digital silence as well, instead of rejecting it as a mistake.")

    def __post_init__(self) -> None:
        check_ranges(self)
        for one in self.allowed_schemes:
            _check_scheme(one)
        for prefix in self.input_prefixes:
            scheme, separator, place = prefix.partition("://")
            # A relative path would mean a different folder for every worker.
            if not (prefix.startswith("/") or (separator and place and (scheme != "file" or place.startswith("/")))):
                raise SettingError(
                    "input_prefixes", f"{prefix!r} is neither an absolute path nor a URI such as s3://bucket/folder"
                )


def _check_scheme(name: str) -> None:
    """Raise SettingError unless files can be read at such URIs here."""
    try:
        fsspec.get_filesystem_class(name)
    except ValueError as error:
        raise SettingError("allowed_schemes", f"no storage is known for {name!r}; write for example s3") from error
    except ImportError as error:
        package = getattr(error.__cause__, "name", None) or "the package of fsspec for it"
        message = f"{package} is needed for {name!r} and not installed: install it here and on the workers"
        raise SettingError("allowed_schemes", message) from error
