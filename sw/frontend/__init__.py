"""From an ONNX file to the graphs that the compiler takes.

``source`` reads and checks the file, ``qoperator`` rewrites its integer operators; ``values`` says
what is known of each ONNX tensor, ``patterns`` is the table of operators; ``builder`` walks the
nodes and collects layers, ``plan`` puts them into segments, ``cut`` takes the host's parts out of
the model,
``notes`` adds what onnxruntime does differently.
"""

from dataclasses import replace
from pathlib import Path

from onnx import ModelProto

from weft.errors import ModelError
from weft.frontend.onnx.cut import cut
from weft.frontend.onnx.notes import annotate
from weft.frontend.onnx.partition import make_plan
from weft.frontend.onnx.source import Source
from weft.ir import Graph, Plan, Where

__all__ = ["annotate", "load_graph", "partition"]


def partition(model: str | Path | ModelProto) -> Plan:
    """A quantized ONNX model (QDQ or QOperator format, int8 or uint8) in segments, each for the
    accelerator or for the host.

    What lies between DequantizeLinear and QuantizeLinear, and is supported with all its
    attributes, becomes a layer of the accelerator; the host runs the rest. The placements name
    every node, and give the reason if it is the host.

    A symbolic first dimension of an input is taken as a batch of 1.

    Raises
    ------
    ModelError
        In one line: the file or node, what was expected, what came. Also if nothing at all can run
        on the accelerator.
    """
    return make_plan(Source.load(model))[0]


def load_graph(model: str | Path | ModelProto) -> Graph:
    """The accelerated graph of a model that has one, with the host's parts before and after it.

    As :func:`partition`, but an operator between two layers that the accelerator lacks is an error.
    """
    source = Source.load(model)
    plan, builder = make_plan(source)
    if len(plan.graphs) > 1:
        first, last = (plan.segments.index(graph) for graph in (plan.graphs[0], plan.graphs[-1]))
        between = [row.reason for row in plan.placements
                   if row.where is Where.HOST and first <= row.segment <= last
                   and (row.segment, row.reason) != (first, "")]
        known = {str(error) for error in (*builder.refusals.values(), *builder.reordered.values())}
        raise ModelError(next((reason for reason in between if reason in known), between[0]))
    graph, = plan.graphs
    entries = {value.name for value in source.inputs}
    entering = list(dict.fromkeys(edge.onnx_name for edge in graph.inputs
                                  if edge.onnx_name not in entries))
    leaving = [edge.onnx_name for edge in graph.outputs]
    computed = [name for name in source.outputs if name not in leaving]
    return replace(
        graph,
        prefix=cut(source, (), entering, "prefix") if entering else None,
        suffix=cut(source, leaving, computed, "suffix") if computed else None)
