"""Float networks as a list of nodes that can be drawn at random, changed, and written down.

Weights and shapes follow from the description: a change of one node leads to another whole network,
or to :class:`Unfit`. So a network that fails can be made smaller step by step.
"""

from dataclasses import asdict, dataclass, field, replace
from math import prod
from typing import Any, Self

import onnx

from fuzz.networks.export import Export
from fuzz.networks.nodes import Node, Shape, Unfit
from fuzz.networks.shapes import shape_of, weight_shape

__all__ = ["FloatGraph"]


@dataclass(frozen=True)
class FloatGraph:
    """A float network.

    Parameters
    ----------
    seed : :class:`int`
        Of all weights; those of a node depend on its name, too, and on nothing else.
    inputs : :class:`dict` of (C, H, W)
    nodes : tuple of :class:`Node`
        In an order in which they can be computed.
    outputs : tuple of :class:`str`
    signal : :class:`bool`
        Planes have one column, and are [1, C, L] in the model.
    """

    seed: int
    inputs: dict[str, tuple[int, int, int]]
    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]
    signal: bool = False
    shapes: dict[str, Shape] = field(init=False, compare=False, repr=False)
    macs: int = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        shapes: dict[str, Shape] = dict(self.inputs)
        macs = 0
        for node in self.nodes:
            try:
                sources = [shapes[name] for name in node.inputs]
                shapes[node.name] = shape_of(node, sources, shapes)
            except KeyError as error:
                raise Unfit(f"{node.name} reads {error}") from None
            if min(shapes[node.name]) < 1:
                raise Unfit(f"{node.name} is empty")
            if self.signal and any(shape[2:] not in ((), (1,)) for shape in shapes.values()):
                raise Unfit(f"{node.name} has several columns")
            if node.op == "Attend":
                macs += 2 * prod(sources[0]) * prod(sources[0][1:])
            macs += prod(weight_shape(node, sources[0], shapes[node.name])) * \
                prod(shapes[node.name][1:])
        if not self.outputs or any(name not in shapes or name in self.inputs
                                   for name in self.outputs):
            raise Unfit("the outputs must be nodes")
        object.__setattr__(self, "shapes", shapes)
        object.__setattr__(self, "macs", macs)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: options that a node has no use for are left out."""
        plain = asdict(Node("", "", ()))
        nodes = [{key: value for key, value in asdict(node).items()
                  if key in ("name", "op", "inputs") or value != plain[key]}
                 for node in self.nodes]
        return {"seed": self.seed, "inputs": self.inputs, "nodes": nodes, "outputs": self.outputs,
                "signal": self.signal}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """From what :meth:`to_dict` made, by way of JSON or not."""
        return cls(seed=values["seed"], outputs=tuple(values["outputs"]), signal=values["signal"],
                   inputs={name: tuple(shape) for name, shape in values["inputs"].items()},
                   nodes=tuple(Node.from_dict(each) for each in values["nodes"]))

    def pruned(self) -> "FloatGraph":
        """Without nodes and inputs that no output needs."""
        needed = set(self.outputs)
        for node in reversed(self.nodes):
            if node.name in needed:
                needed |= {*node.inputs} | ({node.filters} if isinstance(node.filters, str)
                                            else set())
        return replace(self, nodes=tuple(node for node in self.nodes if node.name in needed),
                       inputs={name: shape for name, shape in self.inputs.items()
                               if name in needed})

    def to_onnx(self) -> onnx.ModelProto:
        """The float model. Weights are such that values neither grow nor die on the way."""
        export = Export(self.seed, self.shapes, axes=1 if self.signal else 2)
        for node in self.nodes:
            export.add(node)
        return export.model(self.inputs, self.outputs)
