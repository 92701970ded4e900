"""What a network is calibrated on: images of a folder, arrays, or noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from weft.errors import InputError, ToolError
from weft.errors.distribution import install_command
from weft.errors.limits import check_frames

__all__ = ["Frames", "ImageFrames", "Pixels", "array_frames", "random_frames"]


Frames: TypeAlias = Sequence[Mapping[str, np.ndarray]]
"""For each frame, arrays by input name, of the model's own shapes."""

_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff",
                       ".webp"})


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """How an image becomes the input of a network: ``(pixel / 255 - mean) / std``.

    Attributes
    ----------
    size : :class:`int` or :py:`None`
        Length in pixels of the shorter side, before the middle is cut out; by default as little as
        the network's height and width need.
    mean, std : :class:`tuple` of :class:`float`
        One for all channels, or one for each.
    layout : :class:`str` or :py:`None`
        ``nchw`` or ``nhwc``; by default that in which the network's input has 1 or 3 channels.
    channels : :class:`int` or :py:`None`
        1 for grey, 3 for colours; by default what the network's input has.
    """

    size: int | None = None
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    layout: str | None = None
    channels: int | None = None


class ImageFrames(Sequence[Mapping[str, np.ndarray]]):
    """The images of a folder in the order of their names, each read when it is asked for.

    Parameters
    ----------
    folder : :class:`Path`
    shapes : mapping
        Of the network's inputs, by name; there must be but one.
    pixels : :class:`Pixels`

    Raises
    ------
    InputError
        If there is no such folder, or no image in it; if the input is none of an image, or the
        options do not fit it. When a frame is read, if it is no image.
    ToolError
        If Pillow is not installed.
    """

    def __init__(self, folder: Path, shapes: Mapping[str, Sequence[int]],
                 pixels: Pixels | None = None):
        try:
            import PIL.Image  # noqa: F401
        except ImportError:
            raise ToolError(f"Images need Pillow, which is not installed: run "
                            f"{install_command('images')}") from None
        self._pixels = pixels or Pixels()
        if not folder.is_dir():
            raise InputError(f"Calibration {folder} must be a folder of images or an .npz file")
        self.paths = sorted(path for path in folder.iterdir()
                            if path.suffix.lower() in _SUFFIXES and path.is_file())
        if not self.paths:
            raise InputError(f"Folder {folder} must have images "
                             f"({', '.join(sorted(_SUFFIXES))}); it has none")
        if len(shapes) != 1:
            raise InputError(f"Images can calibrate a model of one input, not of {len(shapes)} "
                             f"({', '.join(shapes)}): give an .npz file")
        (self._name, shape), = shapes.items()
        self._place(shape)

    def _place(self, shape: Sequence[int]) -> None:
        pixels, shown = self._pixels, ",".join(map(str, shape))
        counts = (1, 3) if pixels.channels is None else (pixels.channels,)
        axes = {"nchw": 1, "nhwc": 3}
        found = [layout for layout, axis in axes.items() if pixels.layout in (None, layout)
                 and len(shape) == 4 and shape[0] == 1 and shape[axis] in counts]
        if not found:
            wanted = pixels.layout or "nchw or nhwc"
            raise InputError(f"Input '{self._name}' must be of one image ({wanted}) with "
                             f"{' or '.join(map(str, counts))} channels, not of shape {shown}")
        self._layout = found[0]
        self._channels = shape[axes[self._layout]]
        self._height, self._width = shape[2:] if self._layout == "nchw" else shape[1:3]
        for what, values in (("Mean", pixels.mean), ("Deviation", pixels.std)):
            if len(values) not in (1, self._channels) or not np.isfinite(values).all():
                raise InputError(f"{what} of pixels must be 1 or {self._channels} numbers, "
                                 f"not {','.join(map(str, values))}")
        if not all(value > 0 for value in pixels.std):
            raise InputError(f"Deviation of pixels must be positive, "
                             f"not {','.join(map(str, pixels.std))}")
        if pixels.size is not None and pixels.size < max(self._height, self._width):
            raise InputError(f"Size of images must be at least {max(self._height, self._width)}, "
                             f"the larger side of the network's input, not {pixels.size}")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, position: Any) -> Any:
        path = self.paths[position]
        values = self._read(path).astype(np.float32) / np.float32(255)
        mean, std = (np.array(each, np.float32) for each in (self._pixels.mean, self._pixels.std))
        values = (values - mean) / std
        if self._layout == "nchw":
            values = values.transpose(2, 0, 1)
        return {self._name: np.ascontiguousarray(values[None])}

    def _read(self, path: Path) -> np.ndarray:
        """uint8 [height, width, channels]"""
        from PIL import Image, ImageOps

        try:
            with Image.open(path) as file:
                image = file.convert("L" if self._channels == 1 else "RGB")
        except Exception as error:  # each format has errors of its own
            raise InputError(f"Image {path} cannot be read: {error}") from None
        size, bilinear = self._pixels.size, Image.Resampling.BILINEAR
        if size is None:
            image = ImageOps.fit(image, (self._width, self._height), bilinear)
        else:
            scale = size / min(image.size)
            image = image.resize((max(size, round(image.width * scale)),
                                  max(size, round(image.height * scale))), bilinear)
            left = (image.width - self._width) // 2
            top = (image.height - self._height) // 2
            image = image.crop((left, top, left + self._width, top + self._height))
        return np.asarray(image, np.uint8).reshape(self._height, self._width, self._channels)


def array_frames(arrays: Mapping[str, np.ndarray], shapes: Mapping[str, Sequence[int]],
                 name: str = "arrays") -> Frames:
    """Frames out of one array for each input.

    Parameters
    ----------
    arrays : mapping
        By input name, or ``input`` for the only one: [frames, ...] without a batch dimension of 1.
    shapes : mapping
        Of the network's inputs, by name.
    name : :class:`str`
        Of the arrays, for messages.

    Raises
    ------
    InputError
        If an array is missing, of another shape, not of numbers, or not finite.
    """
    frames: dict[str, np.ndarray] = {}
    for key, shape in shapes.items():
        source = "input" if len(shapes) == 1 and key not in arrays else key
        if source not in arrays:
            found = ", ".join(f"'{each}'" for each in arrays) or "none"
            raise InputError(f"Calibration {name} must have an array '{key}'; it has {found}")
        values = arrays[source]
        inner = tuple(shape[1:] if shape[:1] == (1,) else shape)
        if values.shape[1:] != inner or not len(values):
            wanted = ", ".join(["frames", *map(str, inner)])
            raise InputError(f"Array '{source}' of calibration {name} must have shape [{wanted}], "
                             f"not {list(values.shape)}")
        if values.dtype.kind not in "fiu":
            raise InputError(f"Array '{source}' of calibration {name} must have numbers, "
                             f"not {values.dtype}")
        values = values.astype(np.float32)
        if not np.isfinite(values).all():
            raise InputError(f"Array '{source}' of calibration {name} must be finite")
        frames[key] = values.reshape(len(values), *shape)
    counts = {len(values) for values in frames.values()}
    if len(counts) > 1:
        raise InputError(f"Arrays of calibration {name} must have the same number of frames, "
                         f"not {' and '.join(map(str, sorted(counts)))}")
    return [{key: values[position] for key, values in frames.items()}
            for position in range(counts.pop())]


def random_frames(shapes: Mapping[str, Sequence[int]], count: int, *, seed: int = 0) -> Frames:
    """``count`` frames of noise, normally distributed around 0 with a deviation of 1.

    Raises
    ------
    InputError
        If ``count`` is not positive, or more than there is memory for; or ``seed`` is negative.
    """
    if count < 1:
        raise InputError(f"Number of random frames must be at least 1, not {count}")
    if seed < 0:
        raise InputError(f"Seed must be at least 0, not {seed}")
    check_frames(count, sum(12 * int(np.prod(shape)) for shape in shapes.values()), InputError)
    rng = np.random.default_rng(seed)
    return [{name: rng.standard_normal(shape).astype(np.float32)
             for name, shape in shapes.items()} for _ in range(count)]
