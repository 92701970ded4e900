"""The front end for ONNX: from a file or an :class:`onnx.ModelProto` to a partition.

``source`` reads and checks the file, ``qoperator`` rewrites its integer operators; ``values`` says
what is known of each tensor, ``patterns`` is the table of operators; ``builder`` walks the nodes
and collects layers, ``partition`` puts them into segments, ``model`` wraps what the host runs and
compares with; ``notes`` adds what onnxruntime does differently.
"""

from pathlib import Path

from onnx import ModelProto

from weft.errors import ModelError
from weft.ir import Graph, Misfits, Partition, Where

from .notes import annotate
from .partition import make_partition
from .source import Source

__all__ = ["OnnxFrontEnd", "annotate", "load_graph"]


class OnnxFrontEnd:
    """The :class:`weft.frontend.protocol.FrontEnd` for ONNX: QDQ or QOperator format, int8 or
    uint8.

    What lies between DequantizeLinear and QuantizeLinear, and is supported with all its
    attributes, becomes a layer of the accelerator; the host runs the rest. A symbolic first
    dimension of an input is taken as a batch of 1.
    """

    format = "ONNX"

    def reads(self, path: Path, head: bytes) -> bool:
        """By its suffix: the format has no mark of its own."""
        return path.suffix.lower() == ".onnx"

    def takes(self, model: object) -> bool:
        """An :class:`onnx.ModelProto`."""
        return isinstance(model, ModelProto)

    def partition(self, model: object, misfits: Misfits | None = None) -> Partition:
        """See :meth:`weft.frontend.protocol.FrontEnd.partition`."""
        if not isinstance(model, str | Path | ModelProto):
            raise TypeError(f"Model must be a path or an onnx.ModelProto, not {model!r}")
        return make_partition(Source.load(model), misfits)[0]


def load_graph(model: str | Path | ModelProto) -> Graph:
    """The accelerated graph of a model that has but one, without the host's parts around it.

    Raises
    ------
    ModelError
        As :func:`weft.frontend.partition`; also for an operator between two layers that the
        accelerator lacks.
    """
    divided, builder = make_partition(Source.load(model))
    graphs = divided.accelerated()
    if len(graphs) > 1:
        first, last = (divided.segments.index(graph)
                       for graph in (graphs[0], graphs[-1]))
        between = [row.reason for row in divided.placements
                   if row.where is Where.HOST and first <= row.segment <= last
                   and (row.segment, row.reason) != (first, "")]
        known = {str(error) for error in (*builder.refusals.values(), *builder.reordered.values())}
        raise ModelError(next((reason for reason in between if reason in known), between[0]))
    graph, = graphs
    return graph
