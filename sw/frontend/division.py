"""From layers to segments: what runs on the accelerator, what on the host, and in which order.

A node runs in the earliest stage that its inputs allow. Even stages are the host's, odd ones the
accelerator's; a stage in which something is to do becomes a segment. Stages of the accelerator with
hardly any work, among nodes of the host, are left to the host, too: the smallest first.
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from weft.errors import ModelError
from weft.ir import (
    Edge,
    Graph,
    HostPart,
    HostProgram,
    Layer,
    Misfits,
    Partition,
)

from .functions import merge_functions
from .placing import Node, Placer, Quantized

__all__ = ["Division", "settle"]


# Share of the multiply-accumulates of those parts of a model, together, that are not worth the way
# from the host to the accelerator and back.
_SMALL = 0.01


class Division(ABC, Generic[Node]):
    """What each stage does, found from the outputs back to the inputs.

    Parameters
    ----------
    name : :class:`str`
        Of the model.
    placer : :class:`Placer`
    nodes : sequence
        In execution order.
    inputs, outputs : names
        Tensors of the model.
    """

    def __init__(self, name: str, placer: Placer[Node], nodes: Sequence[Node],
                 inputs: Iterable[str], outputs: Iterable[str]):
        self._name = name
        self._placer = placer
        self._nodes = nodes
        self._inputs = set(inputs)
        self._producers = {name: node for node in nodes for name in self.makes(node)}
        # Outputs of each stage, in the order in which they were asked for.
        self._wanted: dict[int, dict[str, None]] = defaultdict(dict)
        self._hosted: dict[int, tuple[list[Node], dict[str, None]]] = {}
        self._accelerated: dict[int, tuple[list[Layer], list[Edge]]] = {}
        self._gone: dict[int, dict[str, str]] = {}  # of each stage, see merge_functions
        for output in outputs:
            self._want(output)
        for stage in range(max(self._wanted, default=0), -1, -1):
            if stage % 2:
                self._take_layers(stage)
            else:
                self._take_nodes(stage)

    # What the format knows --------------------------------------------------------------------

    @abstractmethod
    def makes(self, node: Node) -> Iterable[str]:
        """Tensors that a node makes; the first one stands for it."""

    @abstractmethod
    def reads(self, node: Node) -> Iterable[str]:
        """Tensors that a node reads."""

    @abstractmethod
    def stage(self, name: str) -> int:
        """The stage that makes a tensor of the model."""

    @abstractmethod
    def quantized(self, name: str) -> Quantized:
        """A tensor of the model that the accelerator makes."""

    @abstractmethod
    def cheap(self, name: str, node: Node) -> bool:
        """Whether the host had rather make a tensor again than pass it on."""

    @abstractmethod
    def host_program(self, nodes: Sequence[Node], reads: Iterable[str], outputs: Iterable[str],
                     name: str) -> HostProgram:
        """Some nodes as a program."""

    @abstractmethod
    def partition(self) -> Partition:
        """All of it.

        Raises
        ------
        ModelError
            If the host lacks an operator.
        """

    # Stages -----------------------------------------------------------------------------------

    def _first(self, node: Node) -> str:
        return next(iter(self.makes(node)))

    def _want(self, name: str) -> None:
        if name in self._producers:
            self._wanted[self.stage(name)][name] = None

    def _take_layers(self, stage: int) -> None:
        """The layers of a stage that make what is wanted of it, and the edges they read."""
        placer = self._placer
        needed = {self.quantized(name).tensor for name in self._wanted.get(stage, ())}
        layers: list[Layer] = []
        for name, layer in reversed(placer.layers.items()):
            if placer.stages[name] == stage and name in needed:
                needed.update(layer.inputs)
                layers.append(layer)
        made = {layer.output for layer in layers}
        edges = []
        for name in dict.fromkeys(item for layer in reversed(layers) for item in layer.inputs):
            if name in made or name in placer.constants:
                continue
            if name in placer.entries:
                entry = placer.entries[name]
                quantized, layout = entry.source, entry.layout
            else:
                quantized = placer.made[name]
                layout = quantized.layout
            self._want(quantized.name)
            edges.append(Edge(name=quantized.name, shape=quantized.shape, tensor=name,
                              gather=layout.flat()))
        if layers:
            self._accelerated[stage] = (layers[::-1], edges)

    def _take_nodes(self, stage: int) -> None:
        """The nodes that the host needs for what is wanted of a stage, and the tensors it reads."""
        seen = dict.fromkeys(self._wanted.get(stage, ()))
        todo = list(seen)
        nodes: set[str] = set()
        reads: dict[str, None] = {}
        while todo:
            name = todo.pop()
            node = self._producers.get(name)
            if node is None:
                if name in self._inputs:
                    reads[name] = None
                continue
            if self.stage(name) != stage and not self.cheap(name, node):
                self._want(name)
                reads[name] = None
                continue
            if self._first(node) in nodes:
                continue
            nodes.add(self._first(node))
            for item in self.reads(node):
                if item not in seen:
                    seen[item] = None
                    todo.append(item)
        if nodes:
            ordered = [node for node in self._nodes if self._first(node) in nodes]
            self._hosted[stage] = (ordered, reads)

    # Results ----------------------------------------------------------------------------------

    def refusal(self, reason: ModelError | None) -> ModelError | None:
        """Why no stage is the accelerator's: ``reason``, if there is one; nothing if one is.

        Raises
        ------
        ModelError
            If no stage is the host's either.
        """
        if self._accelerated:
            return None
        if not self._hosted:
            raise ModelError(f"{self._name} computes nothing from its inputs")
        return reason or ModelError(f"{self._name} has no operator between quantized tensors that "
                                    f"the accelerator supports")

    def macs(self) -> dict[int, int]:
        """Multiply-accumulates of each stage of the accelerator."""
        tensors = self._placer.tensors
        return {stage: sum(layer.macs(tensors[layer.output]) for layer in layers)
                for stage, (layers, _) in self._accelerated.items()}

    def not_worth_it(self, stage: int, share: float) -> dict[str, ModelError]:
        """The layers of a stage that has only a ``share`` of all multiply-accumulates, with the
        reason not to make them."""
        work = "without a convolution that would be worth leaving it for" if not share else (
            f"in a part with {100 * share:.2g} % of the model's multiply-accumulates: not worth "
            f"leaving the host for")
        return {layer.output: ModelError(f"{layer.op} '{layer.name}' stands between nodes of the "
                                         f"host, {work}")
                for layer in self._accelerated[stage][0]}

    def segments(self) -> tuple[list[Graph | HostPart], dict[int, int]]:
        """The segments in order, and the number of each stage's."""
        segments: list[Graph | HostPart] = []
        numbers: dict[int, int] = {}
        for stage in sorted({*self._hosted, *self._accelerated}):
            numbers[stage] = len(segments)
            segments.append(self._graph(stage) if stage % 2 else self._host_part(stage))
        return segments, numbers

    def makers(self, numbers: Mapping[int, int]) -> dict[str, tuple[int, str]]:
        """By the tensor that a layer makes, the number of its segment and the name of the layer
        that does its work there; ``numbers`` are those of :meth:`segments`, which comes before."""
        return {layer.output: (numbers[stage], self._gone[stage].get(layer.name, layer.name))
                for stage, (layers, _) in self._accelerated.items() for layer in layers}

    def _graph(self, stage: int) -> Graph:
        layers, entering = self._accelerated[stage]
        leaving = []
        for name in self._wanted[stage]:
            quantized = self.quantized(name)
            assert quantized.tensor is not None
            leaving.append(Edge(name=name, shape=quantized.shape, tensor=quantized.tensor,
                                gather=quantized.layout.inverse(quantized.shape).flat()))
        used = {name for layer in layers for name in (*layer.inputs, layer.output)}
        name = self._name
        if len(self._accelerated) > 1:
            name += f" part {sorted(self._accelerated).index(stage) + 1}"
        order = {item: index for index, item in enumerate(self._producers)}
        graph, self._gone[stage] = merge_functions(Graph(
            name=name, layers=tuple(layers), inputs=tuple(entering),
            outputs=tuple(sorted(leaving, key=lambda edge: order[edge.name])),
            tensors={key: tensor for key, tensor in self._placer.tensors.items() if key in used},
            constants={key: values for key, values in self._placer.constants.items()
                       if key in used}))
        return graph

    def _host_part(self, stage: int) -> HostPart:
        nodes, reads = self._hosted[stage]
        outputs = tuple(self._wanted[stage])
        return HostPart(program=self.host_program(nodes, reads, outputs, f"host{stage}"),
                        inputs=tuple(reads), outputs=outputs)


SomeDivision = TypeVar("SomeDivision", bound=Division[Any])


def settle(divide: Callable[[Mapping[str, ModelError]], SomeDivision],
           misfits: Misfits | None = None) -> tuple[Partition, SomeDivision]:
    """Divides a model again and again, until each layer is worth its way to the accelerator, and
    has room there.

    Parameters
    ----------
    divide : callable
        Divides the model without the layers, by their output tensors, that it is given with the
        reason.
    misfits : callable
        See :func:`weft.frontend.partition`.
    """
    forbidden: dict[str, ModelError] = {}
    total = spent = 0
    while True:
        division = divide(forbidden)
        macs = division.macs()
        total = total or sum(macs.values())
        refused: dict[str, ModelError] = {}
        for stage in sorted(macs, key=macs.__getitem__):
            if not total or spent + macs[stage] > _SMALL * total:
                break
            spent += macs[stage]
            refused |= division.not_worth_it(stage, macs[stage] / total)
        if not refused:
            partition = division.partition()
            if misfits is not None:
                refused = {name: ModelError(str(error), cure=error.cure)
                           for name, error in misfits(partition.graphs).items()}
            if not refused:
                return partition, division
        forbidden |= refused
