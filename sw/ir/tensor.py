"""Quantized tensors.

A model's uint8 tensor is an int8 one with its values and its zero point moved by 128. Tensors are
channel-first, [C, H, W]; vectors are [C, 1, 1].
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

__all__ = ["Tensor"]


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A quantized tensor of one frame.

    Parameters
    ----------
    name : :class:`str`
        Name of the model's tensor that holds these values.
    shape : (C, H, W)
    scale : :class:`float`
        A float32 value.
    zero_point : :class:`int`
        In the int8 domain.
    unsigned : :class:`bool`
        Whether the model's tensor is uint8, so that its values are 128 larger than ours.
    order : int64 array or :py:`None`
        Order of the model's values, as flat indices: ``ours.flat = model.flat[order]``.
        :py:`None` where both flat orders agree.
    model_shape : :class:`tuple` or :py:`None`
        Shape of the model's tensor, batch dimension (1) included; (1, C, H, W) if not given.
    parts : :class:`int`
        Channels that make one of the model's, which is int32: see :class:`Sums`; 1 for any other
        tensor. ``order`` is that of the int32 values, [C / parts, H, W].
    """

    name: str
    shape: tuple[int, int, int]
    scale: float
    zero_point: int
    unsigned: bool = False
    order: np.ndarray | None = field(default=None, compare=False)
    model_shape: tuple[int, ...] | None = field(default=None, compare=False)
    parts: int = 1

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the model's tensor."""
        return np.dtype(np.int32 if self.parts > 1 else np.uint8 if self.unsigned else np.int8)

    def in_model_type(self, values: np.ndarray) -> np.ndarray:
        """Values of the model's type, [C / parts, H, W], from int8 [C, H, W]."""
        if self.parts > 1:
            return _joined(values, self.parts)
        return values.view(np.uint8) ^ np.uint8(128) if self.unsigned else values

    def to_model(self, values: np.ndarray) -> np.ndarray:
        """The model's tensor from int8 [C, H, W] values."""
        flat = self.in_model_type(values).reshape(-1)
        if self.order is not None:
            ordered = np.empty_like(flat)
            ordered[self.order] = flat
            flat = ordered
        return flat.reshape(self.model_shape or (1, self.shape[0] // self.parts, *self.shape[1:]))


def _joined(values: np.ndarray, parts: int) -> np.ndarray:
    """int32 [C, H, W] of their bytes, each less 128, int8 [parts * C, H, W], the lowest first."""
    octets = (values.view(np.uint8) ^ np.uint8(128)).reshape(parts, -1, *values.shape[1:])
    joined = octets[-1].view(np.int8).astype(np.int32)  # with the sign
    for octet in octets[-2::-1]:
        joined = joined << 8 | octet
    return joined
