"""Every form in which calibration data are given, as frames."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from weft.errors import InputError
from weft.errors.limits import check_frames
from weft.files.arrays import read_arrays

from .frames import Frames, ImageFrames, Pixels, array_frames, random_frames

__all__ = ["NOISE", "CalibrationData", "calibration_frames", "is_noise"]


CalibrationData: TypeAlias = str | Path | np.ndarray | Mapping[str, Any] | Iterable[Any]
"""A folder of images, an .npz file, ``random:N``; or arrays or tensors: one [frames, ...], some by
input name, or an iterable of them, as the batches of a data loader."""

NOISE = "random:"


def is_noise(data: object) -> bool:
    """Whether data are ``random:N``."""
    return isinstance(data, str) and data.startswith(NOISE)


def calibration_frames(data: CalibrationData, shapes: Mapping[str, Sequence[int]],
                       pixels: Pixels | None = None) -> Frames:
    """Frames out of calibration data of any form.

    Parameters
    ----------
    data : :data:`CalibrationData`
        What an iterable gives is a single frame or a batch of them: an array or tensor, a mapping
        by input name, or a tuple with those of the inputs in their order; what follows in it, such
        as labels, is not looked at.
    shapes : mapping
        Of the network's inputs, batch dimension included, by name.
    pixels : :class:`Pixels`
        How images become an input.

    Raises
    ------
    InputError
        If data are of no known form, cannot be read or do not fit the inputs.
    """
    if isinstance(data, str) and is_noise(data):
        count = data.removeprefix(NOISE)
        if not (count.isascii() and count.isdecimal()):
            raise InputError(f"Noise must be {NOISE}N with a number of frames, not '{data}'")
        return random_frames(shapes, int(count))
    if isinstance(data, str | Path):
        path = Path(data)
        if path.is_file():
            return array_frames(read_arrays(path), shapes, str(path))
        return ImageFrames(path, shapes, pixels)
    if isinstance(data, Mapping):
        return array_frames({key: _array(value, "arrays") for key, value in data.items()}, shapes)
    if hasattr(data, "shape"):
        return array_frames({"input": _array(data, "arrays")}, shapes)
    if not isinstance(data, Iterable):
        raise InputError(f"Calibration must be a folder, an .npz file, {NOISE}N, arrays or "
                         f"tensors, not {type(data).__name__}")
    frames: list[Mapping[str, np.ndarray]] = []
    size = sum(4 * int(np.prod(shape)) for shape in shapes.values())
    for number, item in enumerate(data, 1):
        frames += _item(item, shapes, f"item {number}")
        check_frames(len(frames), size, InputError)
    return frames


def _item(item: Any, shapes: Mapping[str, Sequence[int]], name: str) -> Frames:
    if not isinstance(item, Mapping):
        values = item if isinstance(item, tuple | list) else (item,)
        if len(values) < len(shapes):
            raise InputError(f"Calibration {name} must have {len(shapes)} arrays, one for each "
                             f"input ({', '.join(shapes)}), not {len(values)}")
        item = dict(zip(shapes, values))
    arrays = {key: _array(value, name) for key, value in item.items()}
    for key, shape in shapes.items():
        if shape[:1] == (1,) and key in arrays and arrays[key].shape == tuple(shape[1:]):
            arrays[key] = arrays[key][None]
    return array_frames(arrays, shapes, name)


def _array(value: Any, name: str) -> np.ndarray:
    if hasattr(value, "detach"):    # a tensor of PyTorch, that may be elsewhere and have a gradient
        value = value.detach().cpu()
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"Calibration {name} must have arrays or tensors of numbers, not "
                         f"{type(value).__name__} ({error})") from None
