"""From a model file to the graphs that the compiler takes.

``protocol`` says what a format must offer, ``registry`` lists the formats that there are; each is
a package of its own, such as ``onnx``. ``fixed_point`` gives a graph of any format the rounding of
TFLite Micro.
"""

from weft.errors import InputError
from weft.ir import Misfits, Partition

from .onnx import annotate, load_graph
from .protocol import RuledFrontEnd
from .registry import find_front_end

__all__ = ["annotate", "load_graph", "partition"]


_ONNXRUNTIME = "onnxruntime"


def partition(model: object, misfits: Misfits | None = None, rule: str | None = None) -> Partition:
    """A quantized model in segments, each for the accelerator or for the host.

    The placements name every node, and give the reason if it is the host. Where the host runs all
    of them, :attr:`weft.ir.Partition.warning` tells why.

    Parameters
    ----------
    model : path, or a model in memory
        As a front end takes it (see :class:`weft.frontend.protocol.FrontEnd`): for ONNX an
        :class:`onnx.ModelProto`, for TFLite the :class:`bytes` of a file.
    misfits : callable
        Layers that an accelerator has no room for: the host runs them. Without it the
        partition is that of an accelerator of any size; :func:`weft.runtime.placing.place` asks
        the compiler.
    rule : :class:`str`
        How sums become int8 values: ``"onnxruntime"``, or for a TFLite model ``"tflite"`` or
        ``"tflite-micro"``. By default as the model's own runtime does.

    Raises
    ------
    ModelError
        In one line: the file or node, what was expected, what came.
    InputError
        If ``model`` is of no known kind, or its format does not know the rule.
    """
    front_end = find_front_end(model)
    if rule is None:
        return front_end.partition(model, misfits)
    if isinstance(front_end, RuledFrontEnd):
        return front_end.partition(model, misfits, rule)
    if rule != _ONNXRUNTIME:
        raise InputError(f"Rule must be {_ONNXRUNTIME} for {front_end.format} models, not {rule}")
    return front_end.partition(model, misfits)
