"""Int8 models out of float ones that know no data: calibrated with noise."""

from typing import Any

import numpy as np
import onnx

from weft.quantize.static import quantize_frames

__all__ = ["quantize_model"]


_FRAMES = 8


def quantize_model(rng: np.random.Generator, model: onnx.ModelProto,
                   **options: Any) -> onnx.ModelProto:
    """What onnxruntime's static quantizer makes of a float model, calibrated with noise.

    Parameters
    ----------
    rng : :class:`numpy.random.Generator`
        Of the noise.
    model : :class:`onnx.ModelProto`
        Its inputs are float32; a symbolic dimension is taken as 1.
    options
        Passed on to :func:`weft.quantize.static.quantize_frames`.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    shapes = {value.name: [dim.dim_value or 1 for dim in value.type.tensor_type.shape.dim]
              for value in model.graph.input if value.name not in constants}
    return quantize_frames(model, [
        {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        for _ in range(_FRAMES)], **options)
