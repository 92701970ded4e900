"""A graph with the rounding of TFLite Micro instead of onnxruntime's.

The rule is a matter of the model, which a front end settles: this is for graphs of a format that
cannot ask for it, such as ONNX. The compiler never changes what a graph computes.
"""

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from weft import reference
from weft.errors import InputError
from weft.hw.isa.commands import Rounding
from weft.ir import Convolution, Graph, Layer

__all__ = ["with_fixed_point"]


def with_fixed_point(graph: Graph, layers: Collection[str] | None = None) -> Graph:
    """The same graph, with convolutions that round twice.

    The result is another model, not a more or less exact one: some values differ by one. Layers
    other than :class:`Convolution`, :class:`Depthwise` among them, keep their rule.

    Parameters
    ----------
    graph : :class:`Graph`
        Its convolutions must have their ``weight_scale``.
    layers : names
        Which of its layers; all convolutions, if not given.

    Raises
    ------
    InputError
        If a layer does not exist, is not a convolution, does not know the scale of its weights, or
        has a scale that the rule cannot express.
    """
    convolutions = {layer.name for layer in graph.layers if isinstance(layer, Convolution)}
    chosen = convolutions if layers is None else set(layers)
    for name in sorted(chosen - convolutions):
        raise InputError(f"Layer {name!r} must be a convolution to be rounded twice")

    def change(layer: Layer) -> Layer:
        if not isinstance(layer, Convolution) or layer.name not in chosen:
            return layer
        if layer.weight_scale is None:
            raise InputError(f"Layer {layer.name!r} must have the scale of its weights to be "
                             f"rounded twice")
        try:
            multiplier, shift = reference.fixed_point_multiplier(
                graph.tensors[layer.input].scale,
                np.broadcast_to(layer.weight_scale, layer.bias.shape),
                graph.tensors[layer.output].scale)
        except ValueError as error:
            raise InputError(f"Layer {layer.name!r} cannot be rounded twice: {error}") from None
        return replace(layer, rounding=Rounding.FIXED_POINT, fixed_point=(multiplier, shift))

    return replace(graph, layers=tuple(map(change, graph.layers)))
