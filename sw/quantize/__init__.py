"""From a float network to an int8 one that the accelerator runs.

The arithmetic is that of :mod:`onnxruntime.quantization`. ``source`` reads a float model and makes
it ready: ``finite`` looks at its weights, ``batch`` takes one frame out of a fixed batch,
``lines`` makes planes of lines, and ``batch_norm`` puts what is left of batch normalization into
layers. ``frames`` has what a model is calibrated on, ``calibration`` all forms in which it is
given, ``static`` calls the quantizer, ``headroom`` keeps sums in int32, ``loss`` compares with the
float network, and ``pipeline`` is all of it. ``pytorch`` begins with a module of PyTorch and ends
with a session.
"""

from .calibration import CalibrationData, calibration_frames
from .frames import Frames, ImageFrames, Pixels, array_frames, random_frames
from .loss import LayerLoss, TopResult
from .pipeline import Quantization, Quantized, quantize, to_int8

__all__ = ["CalibrationData", "Frames", "ImageFrames", "LayerLoss", "Pixels", "Quantization",
           "Quantized", "TopResult", "array_frames", "calibration_frames", "quantize",
           "random_frames", "to_int8"]
