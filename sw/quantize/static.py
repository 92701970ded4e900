"""The call of onnxruntime's static quantizer."""

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

__all__ = ["METHODS", "quantize_frames", "quiet"]


METHODS = {"minmax": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy,
           "percentile": CalibrationMethod.Percentile}
"""Ways to choose the range of an activation, by name."""


class _Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, frames: Sequence[Mapping[str, np.ndarray]], step: Callable[[int], None]):
        self._frames = frames
        self._step = step
        self.set_range(0, len(frames))

    def __len__(self) -> int:
        return len(self._frames)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._positions = iter(range(start_index, end_index))

    def get_next(self) -> Mapping[str, np.ndarray] | None:
        position = next(self._positions, None)
        if position is None:
            return None
        self._step(position)
        return self._frames[position]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what the quantizer has to say: it uses the root logger, and prints."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def quantize_frames(model: onnx.ModelProto, frames: Sequence[Mapping[str, np.ndarray]], *,
                    per_channel: bool = True, unsigned: bool = False, method: str = "minmax",
                    quant_format: QuantFormat = QuantFormat.QDQ,
                    step: Callable[[int], None] = lambda position: None,
                    **options: Any) -> onnx.ModelProto:
    """What the quantizer makes of a float model, which stays as it is.

    Parameters
    ----------
    model : :class:`onnx.ModelProto`
    frames : sequence
        For each frame, arrays by input name, of the model's own shapes.
    per_channel : :class:`bool`
        A weight scale for each output channel, else one for all.
    unsigned : :class:`bool`
        uint8 activations, else int8.
    method : :class:`str`
        One of :data:`METHODS`.
    quant_format : :class:`onnxruntime.quantization.QuantFormat`
    step : callable
        Told the position of each frame.
    options
        Passed on to :func:`onnxruntime.quantization.quantize_static`.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if method != "minmax":
        # All activations of a frame are kept until they are counted: one frame at a time.
        options["extra_options"] = {"CalibStridedMinMax": 1, **(options.get("extra_options") or {})}
    with tempfile.TemporaryDirectory() as folder, quiet():
        target = Path(folder) / "quantized.onnx"
        quantize_static(
            copy, str(target), _Reader(frames, step), quant_format=quant_format,
            per_channel=per_channel, calibrate_method=METHODS[method],
            activation_type=QuantType.QUInt8 if unsigned else QuantType.QInt8,
            weight_type=QuantType.QInt8, **options)
        return onnx.load(target)
