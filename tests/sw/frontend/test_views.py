"""Views at odd places: layers read tensors through them, and no part of the model goes back to the
host for that."""

import numpy as np
import pytest
from models import QdqBuilder, assert_plan_is_golden, random_inputs
from onnx import helper
from sw_programs import equal

from weft.frontend import partition
from weft.hw.isa.presets import PRESETS
from weft.ir import Alias, Selection
from weft.reference.exact import exactness
from weft.reference.golden import cpu_is_exact


class Network:
    """A random network of convolutions, with views between them.

    Attributes
    ----------
    x : :class:`str`
        The newest real-valued tensor, behind a DequantizeLinear.
    shape : (C, H, W)
        Its shape in the model, but for the batch.
    """

    def __init__(self, seed: int):
        self.rng = np.random.default_rng([seed, 91])
        self.b = QdqBuilder(self.rng, unsigned=bool(seed % 2))
        channels, height, width = (int(size) for size in self.rng.integers(2, 9, 3))
        self.shape = (channels, height, width)
        self.x = self.b.input("x", (1, *self.shape))
        self.conv(int(self.rng.choice([4, 6, 12])))

    def like(self, y: str, x: str) -> str:
        """``y`` with the quantization of ``x``."""
        name = x[:x.rindex("_d")]
        return self.b.quantize(y, scale=float(self.b.initializers[f"{name}_scale"]),
                               zero_point=int(self.b.initializers[f"{name}_zero"]))

    def through(self, *steps: tuple[str, tuple[int, ...]]) -> None:
        """Reshapes and transposes, of which some have quantizers of their own."""
        before, y = self.x, self.x
        for number, (op, argument) in enumerate(steps, 1):
            y = self.b.reshape(y, argument) if op == "Reshape" \
                else self.b.node(op, [y], perm=list(argument))
            if number == len(steps) or self.rng.random() < 0.5:
                y = self.like(y, before)
        self.x = y

    # Blocks -----------------------------------------------------------------------------------

    def conv(self, filters: int = 0) -> None:
        filters = filters or int(self.rng.choice([4, 5, 8, 12]))
        self.x = self.b.quantize(self.b.conv(self.x, self.shape[0], filters, (3, 1),
                                             pads=[1, 0, 1, 0]))
        self.shape = (filters, *self.shape[1:])

    def depthwise(self) -> None:
        count = self.shape[0]
        self.x = self.b.quantize(self.b.conv(self.x, 1, count, (3, 3), pads=[1] * 4, group=count))

    def last(self) -> None:
        self.through(("Transpose", (0, 2, 3, 1)), ("Transpose", (0, 3, 1, 2)))

    def shuffle(self) -> None:
        count, height, width = self.shape
        groups = 2 if count % 2 == 0 else 1
        self.through(("Reshape", (1, groups, count // groups, height, width)),
                     ("Transpose", (0, 2, 1, 3, 4)), ("Reshape", (1, *self.shape)))

    def regroup(self) -> None:
        count, height, width = self.shape
        self.shape = (count, width, height)
        self.through(("Reshape", (1, count, height * width)), ("Reshape", (1, *self.shape)))

    def tokens(self) -> None:
        count, height, width = self.shape
        self.through(("Reshape", (1, count, height * width)), ("Transpose", (0, 2, 1)))
        self.x = self.b.quantize(self.b.matmul(self.x, count, 8))
        self.through(("Transpose", (0, 2, 1)), ("Reshape", (1, 8, height, width)))
        self.shape = (8, height, width)

    def divide(self) -> None:
        """A part goes round a layer and is joined to the other one again."""
        count = self.shape[0]
        first = int(self.rng.integers(1, count))
        b, before = self.b, self.x
        name = f"split{len(b.nodes)}"
        sizes = b.constant(f"{name}_sizes", np.array([first, count - first]))
        b.nodes.append(helper.make_node("Split", [before, sizes], [f"{name}a", f"{name}b"],
                                        name=name, axis=1))
        kept, part = (self.like(f"{name}{each}", before) for each in "ab")
        made = self.like(b.conv(part, count - first, count - first), before)
        self.x = self.like(b.node("Concat", [made, kept], axis=1), before)

    def widen(self) -> None:
        count = self.shape[0]
        more = int(self.rng.integers(1, 6))
        pads = self.b.constant(f"pads{len(self.b.nodes)}", np.array([0, 0, 0, 0, 0, more, 0, 0]))
        wide = self.like(self.b.node("Pad", [self.x, pads]), self.x)
        other = self.b.quantize(self.b.conv(self.x, count, count + more))
        self.x = self.b.quantize(self.b.node("Add", [wide, other]))
        self.shape = (count + more, *self.shape[1:])

    def gate(self) -> None:
        """Squeeze and excitation."""
        b, count = self.b, self.shape[0]
        mean = b.quantize(b.node("GlobalAveragePool", [self.x]))
        inner = b.quantize(b.node("Relu", [b.conv(mean, count, 2)]))
        factor = b.node("Sigmoid", [b.quantize(b.conv(inner, 2, count))])
        self.x = b.quantize(b.node("Mul", [self.x, b.quantize(factor, scale=1 / 256)]))

    # Ends -------------------------------------------------------------------------------------

    def dense(self) -> None:
        size = int(np.prod(self.shape))
        self.through(("Transpose", (0, 2, 3, 1)), ("Reshape", (1, size)))
        self.b.output(self.b.quantize(self.b.gemm(self.x, size, 7)))

    def heads(self) -> None:
        """Boxes of two scales, one behind the other."""
        x, (count, height, width) = self.x, self.shape
        boxes = []
        for stride in (1, 2):
            head = self.b.conv(x, count, 8, (3, 3), pads=[1] * 4, strides=[stride, stride])
            self.x = self.b.quantize(head, scale=0.5, zero_point=3)
            pixels = ((height - 1) // stride + 1) * ((width - 1) // stride + 1)
            self.through(("Transpose", (0, 2, 3, 1)), ("Reshape", (1, pixels * 2, 4)))
            boxes.append(self.x)
        joined = self.like(self.b.node("Concat", boxes, axis=1), boxes[0])
        self.b.output(self.b.quantize(self.b.node("Sigmoid", [joined]), scale=1 / 256))


BLOCKS = (Network.conv, Network.depthwise, Network.last, Network.shuffle, Network.regroup,
          Network.tokens, Network.divide, Network.widen, Network.gate)


@pytest.mark.parametrize("seed", range(24))
def test_random_network_with_views_is_one_part(seed):
    network = Network(seed)
    for number in network.rng.integers(0, len(BLOCKS), 5):
        BLOCKS[number](network)
    (Network.dense, Network.heads)[seed % 2](network)
    plan = partition(network.b.build())
    assert len(plan.graphs) == 1
    if cpu_is_exact():
        assert_plan_is_golden(plan, random_inputs(network.rng, plan.model.proto), exact=False)
    graph, = plan.graphs
    if all(proof is None or proof.exact
           for proof in (exactness(graph, layer) for layer in graph.layers)):
        config = PRESETS[("base", "small")[seed % 2]]
        equal(graph, config, network.rng, keep_tensors=bool(seed % 4))


def layers_of(network: Network):
    network.dense()
    plan = partition(network.b.build())
    assert len(plan.graphs) == 1
    if cpu_is_exact():
        assert_plan_is_golden(plan, random_inputs(network.rng, plan.model.proto), exact=False)
    return plan.graphs[0].layers


def test_views_that_the_accelerator_does_not_see_are_no_layers():
    network = Network(0)
    network.last()
    network.tokens()
    network.conv()
    assert not any(isinstance(layer, Alias | Selection) for layer in layers_of(network))


def test_planes_of_another_shape_are_another_name():
    network = Network(1)
    network.regroup()
    network.conv()
    alias, = (layer for layer in layers_of(network) if isinstance(layer, Alias))
    assert alias.order is None and alias.op == "Reshape"


def test_channels_in_another_order_are_another_name():
    network = Network(2)
    network.shuffle()
    network.depthwise()
    alias, = (layer for layer in layers_of(network) if isinstance(layer, Alias))
    half = len(alias.order) // 2
    assert alias.order.tolist() == [place + half * side for place in range(half)
                                    for side in (0, 1)]
