"""Random networks: the shapes of networks that people use, at sizes that nobody would."""

from collections.abc import Callable

import numpy as np

from fuzz.networks.graphs import FloatGraph
from fuzz.networks.nodes import UNARY, Node, Unfit

__all__ = ["draw_graph"]


def draw_graph(rng: np.random.Generator, *, lanes: tuple[int, int], macs: int,
               vector: bool = True, products: bool = False) -> FloatGraph:
    """A random network of blocks: each reads a tensor that is there already, the newest or any
    other, so that there are chains as well as branches that live long.

    Parameters
    ----------
    rng : :class:`numpy.random.Generator`
    lanes : (rows, cols)
        Of the array. Many layers have just as many channels, or one more; or few, or up to twice
        and a half as many.
    macs : :class:`int`
        Most multiply-accumulates; there are some: a quantizer leaves a network without any as it
        is.
    vector : :class:`bool`
        With layers that are no convolutions.
    products : :class:`bool`
        With products of two activations, and normalized ones.
    """
    while True:
        try:
            graph = _Draft(rng, lanes, vector, products).finish()
        except Unfit:  # a window that is larger than its plane
            continue
        if 0 < graph.macs <= macs:
            return graph


class _Draft:
    def __init__(self, rng: np.random.Generator, lanes: tuple[int, int], vector: bool,
                 products: bool):
        self._rng = rng
        self._lanes = lanes
        self._vector = vector
        self._signal = bool(rng.random() < 0.1)
        self._fused: set[str] = set()  # what only a Relu or Clip may read
        self._nodes: list[Node] = []
        self._inputs: dict[str, tuple[int, int, int]] = {"x": (self._count(), *self._plane())}
        if rng.random() < 0.1:
            self._inputs["y"] = (self._count(), *self._plane())
        self._graph: FloatGraph | None = None
        blocks: tuple[Callable[[str], object], ...] = _ANY
        if vector:
            blocks += _VECTOR
        if products:    # often enough that most networks have one
            blocks += (_Draft.attend,) * 8 + (_Draft.normalize,) * 4
        for _ in range(int(rng.integers(1, 7))):
            blocks[int(rng.integers(len(blocks)))](self, self._source())

    # Choices ----------------------------------------------------------------------------------

    def _chance(self, probability: float) -> bool:
        return bool(self._rng.random() < probability)

    def _count(self) -> int:
        """Channels: those of an array's tile, one, few, or any number."""
        kind = self._rng.random()
        if kind < 0.4:
            return int(self._rng.choice(self._lanes))
        if kind < 0.5:
            return 1
        if kind < 0.6:
            return int(self._rng.choice(self._lanes)) * int(self._rng.integers(1, 3)) + 1
        most = 5 * max(self._lanes) // 2 if kind < 0.75 else min(8, 2 * max(self._lanes))
        return int(self._rng.integers(1, most + 1))

    def _plane(self) -> tuple[int, int]:
        """Height and width: often a single pixel, a row or a column."""
        if self._chance(0.1):
            return 1, 1
        most = int(self._rng.choice([4, 8, 14]))
        height, width = (1 if self._chance(0.1) else int(self._rng.integers(1, most + 1))
                         for _ in range(2))
        return (height * width, 1) if self._signal else (height, width)

    @property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        if not self._nodes:
            return dict(self._inputs)
        return FloatGraph(seed=0, inputs=self._inputs, nodes=tuple(self._nodes),
                          outputs=(self._nodes[-1].name,), signal=self._signal).shapes

    def _source(self) -> str:
        planes = [name for name, shape in self._shapes.items()
                  if len(shape) == 3 and name not in self._fused]
        return planes[-1] if self._chance(0.6) else planes[int(self._rng.integers(len(planes)))]

    def _window(self, source: str, most: int = 3) -> dict[str, tuple[int, ...]]:
        """A kernel that fits the plane, with strides and pads."""
        rng, kernel, pads, strides = self._rng, [], ([], []), []
        same = self._chance(0.4)
        for length in self._shapes[source][1:2 if self._signal else 3]:
            size = int(rng.integers(1, most + 1))
            if self._chance(0.05):
                size = int(length)  # the whole plane: one pixel is left
            before, after = (size // 2, (size - 1) // 2) if same else \
                (int(pad) for pad in rng.integers(0, size, 2))
            if size > length + before + after:
                size = before = after = 1
                before = after = 0
            kernel.append(size)
            pads[0].append(before)
            pads[1].append(after)
            strides.append(1 if same or self._chance(0.6) else int(rng.integers(1, 4)))
        if self._signal:
            for values, plain in ((kernel, 1), (strides, 1), (pads[0], 0), (pads[1], 0)):
                values.append(plain)
        return {"kernel": tuple(kernel), "strides": tuple(strides), "pads": (*pads[0], *pads[1])}

    # Nodes ------------------------------------------------------------------------------------

    def node(self, op: str, *inputs: str, **options: object) -> str:
        name = f"n{len(self._nodes)}"
        self._nodes.append(Node(name, op, inputs, **options))
        return name

    def activation(self, source: str) -> str:
        """Relu or Clip, which cost nothing, or nothing at all."""
        kind = self._rng.random()
        if kind < 0.6 and not self._vector:
            self._fused.add(source)
        if kind < 0.4:
            return self.node("Relu", source)
        if kind < 0.6:
            low, high = sorted(round(float(bound), 2) for bound in self._rng.uniform(-2, 4, 2))
            return self.node("Clip", source, bounds=(low, high + 0.1))
        return source

    def pointwise(self, source: str, filters: int | str) -> str:
        return self.node("Conv", source, filters=filters, bias=self._chance(0.8))

    def average(self, source: str) -> str:
        """One pixel, as an average, by two operators that round differently, or a maximum."""
        if self._chance(0.2):
            return self.node("ReduceMax" if self._chance(0.4) else "GlobalMaxPool", source)
        return self.node("ReduceMean" if self._chance(0.4) else "GlobalAveragePool", source)

    # Blocks -----------------------------------------------------------------------------------

    def conv(self, source: str) -> str:
        window = self._window(source, most=4)
        if self._chance(0.15):
            window["dilations"] = (2, 2) if self._chance(0.5) or self._signal else (1, 2)
        group = int(self._rng.choice([2, 3, 4])) if self._chance(0.25) else 1
        if not self._vector and self._shapes[source][0] <= group:
            group = 1  # or it might be a depthwise one
        filters = group * -(-self._count() // group)
        return self.activation(self.node("Conv", source, filters=filters, group=group,
                                         bias=self._chance(0.8), **window))

    def chain(self, source: str) -> str:
        for _ in range(int(self._rng.integers(1, 4))):
            source = self.activation(self.pointwise(source, self._count()))
        return source

    def fork(self, source: str) -> None:
        """Branches that nothing joins."""
        self.conv(source)
        self.chain(source)

    def gemm(self, source: str) -> str:
        """A tail, or a way back to planes of one pixel."""
        x = self.activation(self.node("Gemm", source, filters=self._count(),
                                      bias=self._chance(0.8)))
        return self.node("Vector", x) if self._chance(0.6) else x

    def depthwise(self, source: str) -> str:
        return self.activation(self.node("Depthwise", source, bias=self._chance(0.8),
                                         **self._window(source, most=4)))

    def separable(self, source: str) -> str:
        return self.activation(self.pointwise(self.depthwise(source), self._count()))

    def residual(self, source: str) -> str:
        """A sum with what went round one to three layers; or with a projection of it."""
        branch = source
        for _ in range(int(self._rng.integers(0, 3))):
            branch = self.activation(self.pointwise(branch, self._count()))
        branch = self.activation(self.pointwise(branch, source))
        if self._chance(0.3):
            source = self.pointwise(source, source)
        pair = (source, branch) if self._chance(0.5) else (branch, source)
        return self.activation(self.node("Add", *pair))

    def squeeze(self, source: str) -> str:
        """Squeeze and excitation: a factor for each channel, made of its average."""
        x = self.average(source)
        few = max(1, self._shapes[source][0] // int(self._rng.integers(1, 5)))
        if self._chance(0.3):
            x = self.node("Vector", self.node("Gemm", x, filters=few))
        else:
            x = self.pointwise(x, few)
        x = self.pointwise(self.activation(x), source)
        gate = str(self._rng.choice(["Sigmoid", "HardSigmoid", "Clip", "Tanh"]))
        x = self.node(gate, x, bounds=(0.0, 1.0)) if gate == "Clip" else self.node(gate, x)
        return self.node("Mul", source, x)

    def race(self, source: str) -> str:
        """Two branches that run side by side, one of them on a single pixel; their product, or
        sum."""
        branches = [source, self.average(source)]
        steps = [0] * int(self._rng.integers(1, 5)) + [1] * int(self._rng.integers(1, 5))
        for at in steps:
            branches[at] = self.activation(self.pointwise(branches[at], self._count()))
        few, many = (self.pointwise(branch, source) for branch in reversed(branches))
        few = self.node("Sigmoid", few) if self._chance(0.5) else few
        return self.node("Mul" if self._chance(0.7) else "Add", many, few)

    def cell(self, source: str) -> str:
        """Some steps of a recurrent cell: gates are pieces of a product, as in an LSTM."""
        size = self._count()
        state = self.pointwise(source, size)
        cell = self.node("Tanh", state)
        for _ in range(int(self._rng.integers(1, 3))):
            product = self.node("Add", self.pointwise(source, 4 * size),
                                self.pointwise(state, 4 * size))
            pieces = [self.node("Piece", product, group=4, factors=(number, 1))
                      for number in range(1, 5)]
            admit, forget, show = (self.node("Sigmoid", piece) for piece in pieces[:3])
            cell = self.node("Add", self.node("Mul", forget, cell),
                             self.node("Mul", admit, self.node("Tanh", pieces[3])))
            state = self.node("Mul", show, self.node("Tanh", cell))
        return state

    def inception(self, source: str) -> str:
        """Branches that are concatenated."""
        window = {"kernel": (3, 1), "pads": (1, 0, 1, 0)} if self._signal else \
            {"kernel": (3, 3), "pads": (1, 1, 1, 1)}
        branches = [source] if self._chance(0.2) else []
        for _ in range(int(self._rng.integers(2, 5))):
            kind = self._rng.random()
            if kind < 0.5:
                branches.append(self.chain(source))
            elif kind < 0.8:
                branches.append(self.node("Conv", source, filters=self._count(), **window))
            else:
                branches.append(self.node("MaxPool", source, **window))
        return self.node("Concat", *branches)

    def pool(self, source: str) -> str:
        if self._chance(0.3):   # right behind a layer, without a quantizer between
            source = self.node("PRelu", source) if self._chance(0.5) else self.activation(
                self.pointwise(source, self._count()))
        window = self._window(source)
        if self._chance(0.5):
            return self.node("MaxPool", source, **window)
        return self.node("AveragePool", source, count_pads=self._chance(0.5), **window)

    def shrink(self, source: str) -> str:
        """One pixel, and layers on it."""
        return self.chain(self.average(source))

    def enlarge(self, source: str) -> str:
        factors = tuple(int(each) for each in self._rng.integers(1, 4, 2))
        if self._signal:
            factors = (factors[0], 1)
        linear = factors[0] == 2 and factors[1] <= 2
        return self.node("Resize", source, factors=factors, count_pads=linear,
                         group=2 if linear and factors[1] == 1 else 1)

    def transposed(self, source: str) -> str:
        window = self._window(source, most=4)
        more = tuple(int(self._rng.integers(stride)) + 1 if self._chance(0.3) else 1
                     for stride in window["strides"])
        return self.activation(self.node("ConvTranspose", source, filters=self._count(),
                                         bias=self._chance(0.8), factors=more, **window))

    def unfold(self, source: str) -> str:
        """Channels that become neighbours in the plane."""
        if self._signal:
            return self.conv(source)
        block = int(self._rng.integers(1, 4))
        x = self.pointwise(source, block * block * int(self._rng.integers(1, 6)))
        return self.pointwise(self.node("DepthToSpace", x, group=block,
                                        count_pads=self._chance(0.5)), self._count())

    def deal(self, source: str) -> str:
        """Channels in another order, or some of them."""
        if self._chance(0.5):
            source = self.node("Shuffle", source, group=int(self._rng.integers(2, 5)))
        if self._chance(0.7):
            first = int(self._rng.integers(1, self._shapes[source][0] + 1))
            source = self.node("Slice", source, factors=(first, int(self._rng.integers(1, 3))))
        elif self._chance(0.5):
            source = self.node("Gather", source, filters=self._count())
        return self.pointwise(source, self._count())

    def crop(self, source: str) -> str:
        """Some rows and columns, or the rows of a column backwards."""
        rng, (_, height, width) = self._rng, self._shapes[source]
        if width == 1 and 2 <= height <= 8 and self._chance(0.6):
            return self.pointwise(self.node("Rows", source), self._count())
        cuts = []
        for size in (height, width):
            before = int(rng.integers(0, size))
            cuts.append((before, int(rng.integers(0, size - before))))
        strides = tuple(1 if size == 1 or self._chance(0.6) else int(rng.integers(2, 4))
                        for size in (height, width))
        return self.pointwise(self.node(
            "Crop", source, strides=strides, pads=tuple(cut[side] for side in (0, 1)
                                                        for cut in cuts)), self._count())

    def view(self, source: str) -> str:
        """Another order on the way, that no layer notices, or planes of another shape."""
        if self._chance(0.5) or self._signal:
            source = self.node("Turn", source)
        else:
            source = self.node("Regroup", source, factors=(int(self._rng.integers(1, 13)), 1))
        return self.pointwise(source, self._count())

    def tokens(self, source: str) -> str:
        for _ in range(int(self._rng.integers(1, 3))):
            source = self.node("Tokens", source, filters=self._count())
        return source

    def attend(self, source: str) -> str:
        """Pixels that look at one another; sometimes at themselves as they are."""
        if self._chance(0.3):
            source = self.normalize(source)
        parts = [source if self._chance(0.2) else self.pointwise(source, source)
                 for _ in range(3)]
        heads = int(self._rng.choice([1, 1, 2, 3, 4]))
        return self.pointwise(self.node(
            "Attend", *parts, group=heads, count_pads=self._chance(0.6)), self._count())

    def normalize(self, source: str) -> str:
        """Of as many channels as are normalized in eights; now and then of others."""
        width = 8 * int(self._rng.integers(1, 5)) - self._chance(0.1)
        if self._shapes[source][0] % 8 or self._chance(0.3):
            source = self.pointwise(source, width)
        source = self.node("Normalize", source, bias=self._chance(0.8))
        return self.pointwise(source, self._count()) if self._chance(0.5) else source

    def heads(self, source: str) -> str:
        """What a detector does: its results as one vector."""
        sources = [source, self._source()][:int(self._rng.integers(1, 3))]
        heads = [self.node("Conv", each, filters=int(self._rng.integers(1, 9)),
                           **self._window(each)) for each in sources]
        return self.node("Flat", *heads)

    def widen(self, source: str) -> str:
        """A sum with more channels than there are."""
        wide = self.node("Widen", source, factors=(
            int(self._rng.integers(0, 3)), int(self._rng.integers(1, 9))))
        return self.activation(self.node("Add", wide, self.pointwise(source, wide)))

    def leak(self, source: str) -> str:
        return self.pointwise(self.node("PRelu", source), self._count())

    def rescale(self, source: str) -> str:
        """A linear function for each channel."""
        op = str(self._rng.choice(["Scale", "Shift", "BatchNormalization"]))
        return self.activation(self.node(op, source))

    def place(self, source: str) -> str:
        """Constants: rows in front, or channels behind, and one for all values."""
        if self._chance(0.6):
            source = self.node("Lead", source, factors=(int(self._rng.integers(1, 5)), 1),
                               count_pads=self._chance(0.4))
        if self._chance(0.6):
            source = self.activation(self.node("Place", source))
        return self.pointwise(source, self._count())

    def unary(self, source: str) -> str:
        return self.node(str(self._rng.choice(list(UNARY))), source)

    def combine(self, source: str) -> str:
        """A sum or product of two tensors of one shape, or of a tensor and a value for each
        channel."""
        shapes = self._shapes
        shape = shapes[source]
        others = [name for name, other in shapes.items() if other in (shape, (shape[0], 1, 1))]
        other = others[int(self._rng.integers(len(others)))]
        op = "Add" if self._chance(0.5) else "Mul"
        return self.activation(self.node(op, source, other))

    # ------------------------------------------------------------------------------------------

    def finish(self) -> FloatGraph:
        """The network: its outputs are all tensors that nobody reads, and sometimes one more."""
        read = {name for node in self._nodes for name in node.inputs}
        outputs = [node.name for node in self._nodes if node.name not in read]
        inner = [node.name for node in self._nodes if node.name in read - self._fused]
        if inner and self._chance(0.25):
            outputs.append(inner[int(self._rng.integers(len(inner)))])
        return FloatGraph(seed=int(self._rng.integers(1 << 31)), inputs=self._inputs,
                          nodes=tuple(self._nodes), outputs=tuple(outputs),
                          signal=self._signal).pruned()


_ANY = (_Draft.conv, _Draft.conv, _Draft.chain, _Draft.fork, _Draft.gemm, _Draft.view,
        _Draft.tokens, _Draft.heads)
_VECTOR = (_Draft.depthwise, _Draft.separable, _Draft.residual, _Draft.squeeze, _Draft.race,
           _Draft.cell, _Draft.inception, _Draft.pool, _Draft.shrink, _Draft.enlarge, _Draft.unary,
           _Draft.combine, _Draft.deal, _Draft.crop, _Draft.leak, _Draft.rescale, _Draft.widen,
           _Draft.transposed, _Draft.unfold, _Draft.place)
