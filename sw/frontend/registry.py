"""The model formats that there are."""

from pathlib import Path

from weft.errors import InputError

from .onnx import OnnxFrontEnd
from .protocol import FrontEnd
from .tflite import TfliteFrontEnd

__all__ = ["FRONT_ENDS", "find_front_end"]


FRONT_ENDS: list[FrontEnd] = [OnnxFrontEnd(), TfliteFrontEnd()]
"""By precedence. The first one also gets the files that none claims, and says what is wrong with
them."""

_HEAD_BYTES = 64


def find_front_end(model: object) -> FrontEnd:
    """The front end of a file, or of a model in memory.

    Raises
    ------
    InputError
        If ``model`` is neither a path nor of a known format.
    """
    if isinstance(model, str | Path):
        path = Path(model)
        head = _head(path)
        return next((each for each in FRONT_ENDS if each.reads(path, head)), FRONT_ENDS[0])
    for front_end in FRONT_ENDS:
        if front_end.takes(model):
            return front_end
    formats = ", ".join(each.format for each in FRONT_ENDS)
    raise InputError(f"Model must be a path or a model in memory ({formats}), "
                     f"not a {type(model).__name__}")


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD_BYTES)
    except (OSError, ValueError):   # for the front end to say what is wrong with it
        return b""
