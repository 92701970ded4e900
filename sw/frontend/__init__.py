"""From an ONNX file to the graph that the compiler takes.

``source`` reads and checks the file, ``values`` says what is known of each ONNX tensor,
``patterns`` is the table of operators, ``builder`` walks the nodes and collects layers, ``cut``
takes the host's parts out of the model.
"""

from pathlib import Path

import onnx

from weft.frontend.builder import Builder
from weft.frontend.source import Source
from weft.ir import Graph

__all__ = ["load_graph"]


def load_graph(model: str | Path | onnx.ModelProto) -> Graph:
    """The accelerated graph of a quantized ONNX model (QDQ format, int8 or uint8).

    Convolutions and fully connected layers between DequantizeLinear and QuantizeLinear become
    layers of the accelerator. What lies before the first and after the last of them stays with the
    host. An operator between two of them that the accelerator lacks is an error.

    A symbolic first dimension of an input is taken as a batch of 1.

    Raises
    ------
    ModelError
        In one line: the node, what was expected, what came.
    """
    return Builder(Source.load(model)).build()
