"""Arrays of floats from other people's files in NumPy's own format (.npy), without pickles."""

import io

import numpy as np
from numpy.lib import format as npy


def floats(data: bytes) -> np.ndarray:
    """The array in an .npy file. Raises ValueError, whatever is wrong with the file.

    NumPy only reads the header: its reader would allocate the memory that the header asks for before checking the file.
    """
    file = io.BytesIO(data)
    try:
        version = npy.read_magic(file)
        shape, by_column, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(file)
    except Exception as error:  # a damaged header can also raise errors of Python's parser
        raise ValueError("it does not begin with the header of one") from error
    if dtype.kind != "f" or len(shape) != 2:
        found = f"{str(dtype)[:40]} of shape {str(shape)[:40]}"
        raise ValueError(f"it contains {found} instead of a two-dimensional array of floats")
    if shape[0] * shape[1] * dtype.itemsize > len(data) - file.tell():
        raise ValueError("it ends before its last number")
    values = np.frombuffer(data, dtype, count=shape[0] * shape[1], offset=file.tell())
    return values.reshape(shape, order="F" if by_column else "C")
