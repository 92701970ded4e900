"""Int8 models out of float ones, by onnxruntime's static quantizer."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

__all__ = ["quantize_model"]


_FRAMES = 8


class _Noise(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
    def __init__(self, rng: np.random.Generator, model: onnx.ModelProto):
        constants = {tensor.name for tensor in model.graph.initializer}
        shapes = {value.name: [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
                  for value in model.graph.input if value.name not in constants}
        self._frames = iter([{name: rng.standard_normal(shape).astype(np.float32)
                              for name, shape in shapes.items()} for _ in range(_FRAMES)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._frames, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer gives advice through the root logger."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def quantize_model(rng: np.random.Generator, model: onnx.ModelProto, folder: Path, *,
                   per_channel: bool = True, unsigned: bool = False,
                   quant_format: QuantFormat = QuantFormat.QDQ, **options: Any) -> onnx.ModelProto:
    """What onnxruntime's static quantizer makes of a float model, calibrated with noise.

    Parameters
    ----------
    rng : :class:`numpy.random.Generator`
        Of the noise.
    model : :class:`onnx.ModelProto`
        Its inputs are float32; a symbolic dimension is taken as 1.
    folder : :class:`Path`
        For the file ``quantized.onnx``.
    per_channel : :class:`bool`
        A weight scale for each output channel, else one for all.
    unsigned : :class:`bool`
        uint8 activations, else int8.
    options
        Passed on to the quantizer.
    """
    target = folder / "quantized.onnx"
    with _quiet():
        quantize_static(
            model, str(target), _Noise(rng, model), quant_format=quant_format,
            per_channel=per_channel,
            activation_type=QuantType.QUInt8 if unsigned else QuantType.QInt8,
            weight_type=QuantType.QInt8, **options)
    return onnx.load(target)
