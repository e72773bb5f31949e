"""Errors after which a process cannot use its GPU any more."""

import logging
import os
import re
import sys
from typing import NoReturn

logger = logging.getLogger(__name__)

BROKEN = 13
"""Exit status of a process that ends itself because its GPU is in such a state."""

LIBRARIES = re.compile(
    r"CUDA error|CUDA driver error|cuBLAS|CUBLAS_STATUS|cuDNN|CUDNN_STATUS|cuFFT|CUFFT_|cuSOLVER|HIP error|"
    r"MIOpen|illegal memory access|device-side assert|unspecified launch failure|uncorrectable ECC|NVML"
)
"""How PyTorch and the libraries below it name such errors; many are plain RuntimeErrors."""


def is_device_failure(error: BaseException) -> bool:
    """Whether every further call to the GPU would fail too, so that only a new process helps.

    Memory that is full is not such an error. An error that was raised because of another one counts as that one.
    """
    torch = sys.modules.get("torch")  # a process that has not imported it has none of its errors
    cause: BaseException | None = error
    while cause is not None:
        if torch is not None and isinstance(cause, torch.OutOfMemoryError):
            return False
        if torch is not None and isinstance(cause, torch.AcceleratorError):
            return True
        if isinstance(cause, RuntimeError) and LIBRARIES.search(str(cause)) is not None:
            return True
        cause = cause.__cause__
    return False


def end_process(why: str, error: BaseException | None = None) -> NoReturn:
    """End this worker's process at once; Ray starts another one, unless the place gets no more work."""
    logger.error("this worker ends its process: %s", why, exc_info=error)
    os._exit(BROKEN)
