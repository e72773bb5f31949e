"""Arrays of floats from files of other people, in NumPy's own format (.npy) without pickles."""

import io

import numpy as np
from numpy.lib import format as npy


def floats(data: bytes) -> np.ndarray:
    """The array of an .npy file. Raises ValueError, whatever is wrong with it.

    Only the header is NumPy's to read: for what it says, its reader would allocate memory before it looks.
    """
    file = io.BytesIO(data)
    try:
        version = npy.read_magic(file)
        shape, by_column, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(file)
    except Exception as error:  # of a damaged header, what Python's parser raises too
        raise ValueError(str(error)) from error
    if dtype.kind != "f" or len(shape) != 2:
        raise ValueError(f"it contains {dtype} of shape {shape} instead of a two-dimensional array of floats")
    if shape[0] * shape[1] * dtype.itemsize > len(data) - file.tell():
        raise ValueError("it ends before its last number")
    values = np.frombuffer(data, dtype, count=shape[0] * shape[1], offset=file.tell())
    return values.reshape(shape, order="F" if by_column else "C")
