"""Errors after which only a new process helps, and those that leave the GPU as it was."""

import pytest
import torch

from pipeline.common.broken_device import is_device_failure
from pipeline.common.errors import ClipError


def because(error, cause):
    error.__cause__ = cause
    return error


BROKEN = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")


@pytest.mark.parametrize(
    ("error", "broken"),
    [
        (BROKEN, True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), True),
        (because(ClipError("internal_error", "the clip failed"), BROKEN), True),
        (because(RuntimeError("this worker is unfit"), because(ValueError("x"), BROKEN)), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB; see CUDA error"), False),
        (because(ClipError("internal_error", "the clip failed"), torch.OutOfMemoryError("CUDA error")), False),
        (RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), False),
        (ValueError("CUDA error"), False),
    ],
)
def test_only_errors_of_the_device_end_a_process_whatever_they_are_wrapped_in(error, broken):
    assert is_device_failure(error) is broken
