"""From layers to segments: what runs on the accelerator, what on the host, and in which order.

A node runs in the earliest stage that its inputs allow. Even stages are the host's, odd ones the
accelerator's; a stage in which something is to do becomes a segment. Stages of the accelerator with
hardly any work, among nodes of the host, are left to the host, too: the smallest first.
"""

from collections import defaultdict
from collections.abc import Iterable

import onnx

from weft.errors import ModelError
from weft.errors.text import printable
from weft.ir import (
    Edge,
    Graph,
    HostPart,
    Layer,
    Partition,
    Placement,
    Where,
)

from .builder import Builder
from .macs import node_macs
from .model import OnnxModel, OnnxProgram
from .nodes import implicit_inputs, label
from .patterns import HANDLERS, unsupported
from .source import Source
from .values import Constant, Dequantized, Host, Pending, Quantized, QuantizedConstant, stage_of
from .walk import walk

__all__ = ["make_partition"]


# Share of the multiply-accumulates of those parts of a model, together, that are not worth the way
# from the host to the accelerator and back.
_SMALL = 0.01


def make_partition(source: Source) -> tuple[Partition, Builder]:
    """How a model is divided, and what that was made from."""
    forbidden: dict[str, ModelError] = {}
    total = spent = 0
    while True:
        builder = walk(source, forbidden)
        divider = _Divider(builder)
        macs = divider.macs()
        total = total or sum(macs.values())
        before = len(forbidden)
        for stage in sorted(macs, key=macs.__getitem__):
            if not total or spent + macs[stage] > _SMALL * total:
                break
            spent += macs[stage]
            forbidden |= divider.left_to_the_host(stage, macs[stage] / total)
        if len(forbidden) == before:
            return divider.partition(), builder


class _Divider:
    def __init__(self, builder: Builder):
        self._builder = builder
        self._source = builder.source
        self._inputs = {value.name for value in self._source.inputs}
        self._producers = {name: node for node in builder.nodes for name in node.output if name}
        # Outputs of each stage, in the order in which they were asked for.
        self._wanted: dict[int, dict[str, None]] = defaultdict(dict)
        self._hosted: dict[int, tuple[list[onnx.NodeProto], dict[str, None]]] = {}
        self._accelerated: dict[int, tuple[list[Layer], list[Edge]]] = {}
        for name in self._source.outputs:
            self._want(name)
        for stage in range(max(self._wanted, default=0), -1, -1):
            if stage % 2:
                self._take_layers(stage)
            else:
                self._take_nodes(stage)

    def _stage(self, name: str) -> int:
        """The stage that makes an ONNX tensor."""
        value = self._builder.value(name)
        stage = stage_of(value)
        accelerated = isinstance(value, Quantized) and value.accelerated
        return stage if accelerated else stage + stage % 2

    def _want(self, name: str) -> None:
        if name in self._producers:
            self._wanted[self._stage(name)][name] = None

    def _take_layers(self, stage: int) -> None:
        """The layers of a stage that make what is wanted of it, and the edges they read."""
        builder = self._builder
        needed = {self._quantized(name).tensor for name in self._wanted.get(stage, ())}
        layers: list[Layer] = []
        for name, layer in reversed(builder.layers.items()):
            if builder.stages[name] == stage and name in needed:
                needed.update(layer.inputs)
                layers.append(layer)
        made = {layer.output for layer in layers}
        edges = []
        for name in dict.fromkeys(item for layer in reversed(layers) for item in layer.inputs):
            if name in made:
                continue
            if name in builder.entries:
                entry = builder.entries[name]
                quantized, layout = entry.source, entry.layout
            else:
                quantized = builder.made[name]
                layout = quantized.layout
            self._want(quantized.name)
            edges.append(Edge(name=quantized.name, shape=quantized.shape, tensor=name,
                              gather=layout.flat()))
        if layers:
            self._accelerated[stage] = (layers[::-1], edges)

    def _quantized(self, name: str) -> Quantized:
        value = self._builder.value(name)
        assert isinstance(value, Quantized)
        return value

    def _take_nodes(self, stage: int) -> None:
        """The nodes that the host needs for what is wanted of a stage, and the tensors it reads."""
        seen = dict.fromkeys(self._wanted.get(stage, ()))
        todo = list(seen)
        nodes: dict[str, onnx.NodeProto] = {}
        reads: dict[str, None] = {}
        while todo:
            name = todo.pop()
            node = self._producers.get(name)
            if node is None:
                if name in self._inputs:
                    reads[name] = None
                continue
            value = self._builder.value(name)
            # Dequantizing twice is cheaper than passing real values on, and constants cost nothing.
            cheap = isinstance(value, Constant | QuantizedConstant) \
                or node.op_type == "DequantizeLinear"
            if self._stage(name) != stage and not cheap:
                self._want(name)
                reads[name] = None
                continue
            if node.output[0] in nodes:
                continue
            nodes[node.output[0]] = node
            for item in implicit_inputs(node):
                if item not in seen:
                    seen[item] = None
                    todo.append(item)
        if nodes:
            ordered = [node for node in self._builder.nodes if node.output[0] in nodes]
            self._hosted[stage] = (ordered, reads)

    # Results ----------------------------------------------------------------------------------

    def macs(self) -> dict[int, int]:
        """Multiply-accumulates of each stage of the accelerator."""
        tensors = self._builder.tensors
        return {stage: sum(layer.macs(tensors[layer.output]) for layer in layers)
                for stage, (layers, _) in self._accelerated.items()}

    def left_to_the_host(self, stage: int, share: float) -> dict[str, ModelError]:
        """The layers of a stage that has only a ``share`` of all multiply-accumulates, with the
        reason not to make them."""
        work = "without a convolution that would be worth leaving it for" if not share else (
            f"in a part with {100 * share:.2g} % of the model's multiply-accumulates: not worth "
            f"leaving the host for")
        return {layer.output: ModelError(f"{layer.op} '{layer.name}' stands between nodes of the "
                                         f"host, {work}")
                for layer in self._accelerated[stage][0]}

    def partition(self) -> Partition:
        if not self._accelerated:
            reasons = self._builder.refusals
            if reasons:
                raise next(iter(reasons.values()))
            raise ModelError(f"{self._source.name} has no operator between DequantizeLinear and "
                             f"QuantizeLinear that the accelerator supports: nothing to "
                             f"accelerate")
        segments: list[Graph | HostPart] = []
        numbers: dict[int, int] = {}
        for stage in sorted({*self._hosted, *self._accelerated}):
            numbers[stage] = len(segments)
            segments.append(self._graph(stage) if stage % 2 else self._host_part(stage))
        return Partition(name=self._source.name, model=OnnxModel(self._source.original),
                         segments=tuple(segments), placements=tuple(self._placements(numbers)))

    def _graph(self, stage: int) -> Graph:
        layers, entering = self._accelerated[stage]
        builder = self._builder
        leaving = []
        for name in self._wanted[stage]:
            quantized = self._quantized(name)
            assert quantized.tensor is not None
            leaving.append(Edge(name=name, shape=quantized.shape,
                                tensor=quantized.tensor,
                                gather=quantized.layout.inverse(quantized.shape).flat()))
        used = {name for layer in layers for name in (*layer.inputs, layer.output)}
        name = self._source.name
        if len(self._accelerated) > 1:
            name += f" part {sorted(self._accelerated).index(stage) + 1}"
        order = {item: index for index, item in enumerate(self._producers)}
        return Graph(
            name=name, layers=tuple(layers), inputs=tuple(entering),
            outputs=tuple(sorted(leaving, key=lambda edge: order[edge.name])),
            tensors={key: tensor for key, tensor in builder.tensors.items() if key in used})

    def _host_part(self, stage: int) -> HostPart:
        nodes, reads = self._hosted[stage]
        outputs = tuple(name for name in self._wanted[stage])
        part = self._source.extract(nodes, reads, outputs, f"host{stage}")
        return HostPart(program=OnnxProgram(part), inputs=tuple(reads), outputs=outputs)

    def _placements(self, numbers: dict[int, int]) -> Iterable[Placement]:
        hosts: dict[str, int] = {}
        for stage, (nodes, _) in sorted(self._hosted.items()):
            for node in nodes:
                hosts.setdefault(node.output[0], numbers[stage])
        makers = {layer.output: (numbers[stage], layer.name)
                  for stage, (layers, _) in self._accelerated.items() for layer in layers}
        owners: dict[str, tuple[int, str]] = {}     # layer that a tensor leads to
        reasons: dict[str, ModelError] = {}         # why a tensor is needed on the host
        rows = []
        for node in reversed(self._builder.nodes):
            first = node.output[0]
            value = self._builder.value(first)
            if isinstance(value, Constant | QuantizedConstant):
                continue
            owner = None
            if isinstance(value, Quantized) and value.tensor in makers:
                owner = makers[value.tensor]
            owner = owner or next((owners[name] for name in node.output if name in owners), None)
            reason = self._builder.refusals.get(first)
            if reason is None and node.op_type != "DequantizeLinear":
                reason = next((reasons[name] for name in node.output if name in reasons), None)
            on_host = first in hosts and not (isinstance(value, Quantized) and value.accelerated)
            if on_host and owner is not None and node.op_type == "DequantizeLinear":
                on_host = False     # for both
            for name in filter(None, node.input):
                if owner is not None and not on_host:
                    owners[name] = owner
                elif on_host and reason is not None and isinstance(
                        self._builder.value(name), Dequantized | Pending):
                    reasons[name] = reason      # it was understood, but no layer came of it
            if first in self._source.added:
                continue
            where, segment, layer, text = Where.HOST, hosts.get(first, -1), "", ""
            if on_host:
                text = str(reason or self._usual_reason(node))
            elif first in self._builder.reordered and owner is not None:
                segment, text = owner[0], str(self._builder.reordered[first])
            elif owner is not None:
                where, (segment, layer) = Where.ACCELERATOR, owner
            else:
                continue            # needed for a shape alone
            rows.append(Placement(name=printable(node.name or first),
                                  op=printable(self._source.operator(node)),
                                  where=where, segment=segment, reason=text, layer=layer,
                                  macs=node_macs(node, self._source.shape) if on_host else 0))
        return reversed(rows)

    def _usual_reason(self, node: onnx.NodeProto) -> str:
        if node.op_type == "QuantizeLinear":
            return f"{label(node)} quantizes values that the host makes"
        if node.op_type == "DequantizeLinear":
            return f"{label(node)} makes real values for the host"
        if node.op_type not in HANDLERS:
            return str(unsupported(node))
        values = [self._builder.value(name) for name in node.input if name]
        if any(isinstance(value, Host) for value in values):
            return f"{label(node)} works on real values of the host"
        return f"{label(node)} has no QuantizeLinear after it"
