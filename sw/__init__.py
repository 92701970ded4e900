"""Weft: from a quantized ONNX network to a running hardware accelerator."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weft.errors import WeftError
    from weft.frontend.onnx.streaming import streaming
    from weft.hw.isa.config import AcceleratorConfig
    from weft.quantize.pytorch import from_torch
    from weft.runtime.session import InferenceSession

    __version__: str

__all__ = ["AcceleratorConfig", "InferenceSession", "WeftError", "from_torch", "streaming"]


_HOMES = {"AcceleratorConfig": "weft.hw.isa.config", "InferenceSession": "weft.runtime.session",
          "WeftError": "weft.errors", "from_torch": "weft.quantize.pytorch",
          "streaming": "weft.frontend.onnx.streaming"}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from weft.errors.distribution import version
        return version()
    # Imported when asked for: the session needs the hardware, whose modules import this package.
    if name not in _HOMES:
        raise AttributeError(f"module 'weft' has no attribute {name!r}")
    from importlib import import_module
    return getattr(import_module(_HOMES[name]), name)
