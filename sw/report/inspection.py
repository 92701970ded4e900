"""What ``weft check`` tells: where every node of a model runs, and what that takes."""

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from weft.compiler.estimate import Crossing, LayerEstimate, crossing, estimate
from weft.hw.isa.config import AcceleratorConfig
from weft.ir import Graph, Partition, Placement, Where

__all__ = ["Inspection", "NodeReport", "inspect_plan"]


_QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear", "QUANTIZE", "DEQUANTIZE"})
_EDGE_OPS = frozenset({"Softmax", "QLinearSoftmax", "Reshape", "Flatten", "Transpose", "Squeeze",
                       "Unsqueeze", "Identity", "SOFTMAX", "RESHAPE", "SQUEEZE", "EXPAND_DIMS"})


@dataclass(frozen=True, kw_only=True)
class NodeReport:
    """A node of the model.

    Attributes
    ----------
    placement : :class:`weft.ir.Placement`
    engine : :class:`str`
        Of its layer: matrix, vector, or empty.
    cost : :class:`weft.compiler.estimate.LayerEstimate` or :py:`None`
        Of its layer, and of layers on the way to it that stand for no node of their own; with one
        of the layer's nodes.
    """

    placement: Placement
    engine: str
    cost: LayerEstimate | None

    @property
    def is_quantizer_of_layer(self) -> bool:
        """Whether the node does nothing but give the tensors of its layer their type."""
        return (self.placement.op in _QUANTIZERS and self.placement.where is Where.ACCELERATOR
                and self.cost is None)


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """A model on a configuration.

    Attributes
    ----------
    plan : :class:`weft.ir.Partition`
    config : :class:`AcceleratorConfig`
    nodes : :class:`tuple` of :class:`NodeReport`
        In the order of the file.
    crossings : :class:`dict`
        By index of an accelerated segment, what it exchanges with the host.
    """

    plan: Partition
    config: AcceleratorConfig
    nodes: tuple[NodeReport, ...]
    crossings: dict[int, Crossing]

    @property
    def fallbacks(self) -> tuple[Placement, ...]:
        """Nodes on the host that are more than quantizing and dequantizing, or softmax and
        rearranging at the graph's edges."""
        accelerated = [index for index, segment in enumerate(self.plan.segments)
                       if isinstance(segment, Graph)]

        def at_edge(segment: int) -> bool:
            return bool(accelerated) and not accelerated[0] <= segment <= accelerated[-1]

        return tuple(
            node.placement for node in self.nodes if node.placement.where is Where.HOST
            and node.placement.op not in _QUANTIZERS
            and not (node.placement.op in _EDGE_OPS and at_edge(node.placement.segment)))

    @property
    def macs(self) -> int:
        """Multiply-accumulates on the accelerator."""
        return sum(node.cost.macs for node in self.nodes if node.cost is not None)

    @property
    def host_macs(self) -> int:
        """Multiply-accumulates on the host."""
        return sum(node.placement.macs for node in self.nodes)

    @property
    def accelerated_share(self) -> float:
        """Of all multiply-accumulates, those on the accelerator; 1 if there are none."""
        total = self.macs + self.host_macs
        return self.macs / total if total else 1.0

    @property
    def cycles(self) -> int:
        """Cycles of all layers, each alone on its engine. A frame takes less where engines
        overlap, and more where they wait for memory: see :mod:`weft.runtime.estimate`."""
        return sum(node.cost.cycles for node in self.nodes if node.cost is not None)

    def to_dict(self, model: Path) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {
            "model": str(model),
            "config": {"name": self.config.name, "rows": self.config.rows,
                       "cols": self.config.cols, "fip": self.config.fip},
            "segments": len(self.plan.segments),
            "warning": self.plan.warning,
            "fallbacks": [placement.name for placement in self.fallbacks],
            "macs": self.macs,
            "host_macs": self.host_macs,
            "estimated_cycles": self.cycles,
            "parts": [{"segment": segment, **asdict(each)}
                      for segment, each in self.crossings.items()],
            "nodes": [{
                "name": node.placement.name, "op": node.placement.op,
                "where": str(node.placement.where), "segment": node.placement.segment,
                "reason": node.placement.reason, "cure": node.placement.cure,
                "note": node.placement.note,
                "layer": node.placement.layer, "engine": node.engine,
                **({} if node.cost is None else {
                    "macs": node.cost.macs, "estimated_cycles": node.cost.cycles,
                    "output_bytes": node.cost.output_bytes,
                    "constant_bytes": node.cost.constant_bytes}),
            } for node in self.nodes],
        }


def inspect_plan(plan: Partition, config: AcceleratorConfig) -> Inspection:
    """Where every node runs and what it takes; nothing is compiled or built."""
    # A layer's figures are listed with the node of its name, or else with its first node.
    owners: dict[tuple[int, str], str] = {}
    for placement in plan.placements:
        key = placement.segment, placement.layer
        if key not in owners or placement.name == placement.layer:
            owners[key] = placement.name
    costs = {(number, cost.name): cost for number, segment in enumerate(plan.segments)
             if isinstance(segment, Graph)
             for cost in _costs(segment, config, {layer for at, layer in owners if at == number})}
    nodes = []
    for placement in plan.placements:
        key = placement.segment, placement.layer
        cost = costs.get(key)
        engine = cost.engine.name.lower() if cost is not None and cost.engine else ""
        nodes.append(NodeReport(placement=placement, engine=engine,
                                cost=cost if owners[key] == placement.name else None))
    crossings = {number: crossing(segment, config) for number, segment in enumerate(plan.segments)
                 if isinstance(segment, Graph)}
    return Inspection(plan=plan, config=config, nodes=tuple(nodes), crossings=crossings)


def _costs(graph: Graph, config: AcceleratorConfig, named: Collection[str]) -> list[LayerEstimate]:
    """What the ``named`` layers take; each with those others that lead to it alone."""
    stands_for: dict[str, str] = {}     # by tensor
    sums: dict[str, list[LayerEstimate]] = {}
    for layer, cost in reversed(list(zip(graph.layers, estimate(graph, config), strict=True))):
        name = layer.name if layer.name in named else stands_for.get(layer.output, layer.name)
        sums.setdefault(name, []).append(cost)
        for tensor in layer.inputs:
            stands_for[tensor] = name
    return [replace(
        costs[0], engine=next((cost.engine for cost in costs if cost.engine), None),
        cycles=sum(cost.cycles for cost in costs), macs=sum(cost.macs for cost in costs),
        constant_bytes=sum(cost.constant_bytes for cost in costs))
        for costs in reversed(sums.values())]
