"""How much is taken on: sizes are computed first, and refused before anything is allocated."""

from collections.abc import Callable

from . import WeftError

__all__ = ["HOST_BYTES", "TENSOR_ELEMENTS", "check_arrays", "check_frames"]


HOST_BYTES = 1 << 30
"""What the arrays of a command may take in all. Some are held twice for a while, as values and as
bytes of a device, and all of it has to fit into the memory of a small computer."""

TENSOR_ELEMENTS = 1 << 26
"""Elements of a tensor, at most: numpy and onnxruntime hold one as float32, and its order on the
accelerator takes int64 indices, which makes 12 bytes an element. The largest images that
networks are made for, 64 channels of 1080 x 960, are just below."""

_FRAME_BYTES = 1 << 10
# What Python takes for a frame beside the elements of its arrays.


def check_arrays(size: int, what: str, error: Callable[[str], WeftError]) -> None:
    """Refuses arrays of ``size`` bytes in all where they pass :data:`HOST_BYTES`."""
    if size > HOST_BYTES:
        raise error(f"{what} must take at most {HOST_BYTES:,} bytes, not {size:,}")


def check_frames(count: int, size: int, error: Callable[[str], WeftError]) -> None:
    """Refuses more frames, of ``size`` bytes each, than :data:`HOST_BYTES` has room for."""
    most = HOST_BYTES // (size + _FRAME_BYTES)
    if count > most:
        raise error(f"Number of frames must be at most {most:,} for a model of this size, "
                    f"not {count:,}")
