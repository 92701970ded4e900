"""Files of arrays: .npz, as numpy has them."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from weft.errors import InputError
from weft.errors.limits import check_arrays

from .output import replacing

__all__ = ["read_arrays", "write_arrays"]


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays in a file, by name.

    Raises
    ------
    InputError
        If it cannot be read, is no .npz file of plain arrays, or takes more memory than
        :data:`weft.errors.limits.HOST_BYTES`.
    """
    try:
        # numpy leaves a file that it cannot make sense of open, unless it was given one.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError(f"Inputs {path} must be an .npz file with an array for each "
                                 f"input, not a single array")
            with archive:
                assert archive.zip is not None
                check_arrays(sum(info.file_size for info in archive.zip.filelist),
                             f"Inputs {path}", InputError)
                found: dict[str, np.ndarray] = dict(archive)
    except OSError as error:
        raise InputError(f"Inputs {path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # what a damaged archive leads to is anybody's guess
        if isinstance(error, InputError):
            raise
        raise InputError(f"Inputs {path} must be an .npz file of plain arrays: {error}") from None
    for name, values in found.items():
        if not isinstance(values, np.ndarray):
            raise InputError(f"Inputs {path} must be an .npz file of plain arrays: '{name}' is "
                             f"none")
    return found


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays, under any names, as :func:`weft.files.output.replacing` does."""
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        # numpy.savez cannot store arrays that have the names of its parameters.
        for name, values in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, values, allow_pickle=False)
