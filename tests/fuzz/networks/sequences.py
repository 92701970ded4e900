"""Random operators of transformers, and recurrent cells, in the shapes that are hard: one token,
odd numbers of heads and channels, rows of which the chip holds only some."""

import hashlib
from collections.abc import Callable

import numpy as np
import onnx
from float_models import recurrent

from fuzz.networks.cases import CONFIGS, Case, Circumstances, draw_memories, quantized
from fuzz.networks.graphs import FloatGraph
from fuzz.networks.nodes import Node
from weft.quantize.pipeline import to_int8
from weft.quantize.source import load_float

__all__ = ["KINDS", "draw_sequence"]


def draw_sequence(kind: str, index: int, config: str) -> tuple[onnx.ModelProto, Circumstances]:
    """Int8 model ``index`` of one of :data:`KINDS`, and the circumstances under which it runs on a
    configuration: always the same."""
    rng = np.random.default_rng([index, *hashlib.sha256(f"{kind} {config}".encode()).digest()[:4]])
    real = CONFIGS[config]
    circumstances = {
        "config": config, "seed": int(rng.integers(1 << 31)),
        "memories": draw_memories(rng, real) if rng.random() < 0.5 else {},
        "batch": int(rng.choice([1, 1, 1, 2, 3])), "keep_tensors": bool(rng.random() < 0.5),
        "grain": tuple(float(2 ** rng.uniform(3, 10)) for _ in range(2)),
        "latency": int(rng.choice([1, 8, 32, 100])),
        "stall_probability": float(rng.choice([0.0, 0.0, 0.2, 0.6]))}
    if kind in _CELLS:
        return _cell(rng, kind), Circumstances(**circumstances)
    case = Case(graph=_GRAPHS[kind](rng), per_channel=bool(rng.random() < 0.5),
                unsigned=bool(rng.random() < 0.4), **circumstances)
    return quantized(case), case


# Recurrent cells ------------------------------------------------------------------------------

def _cell(rng: np.random.Generator, kind: str) -> onnx.ModelProto:
    """What ``weft quantize`` makes of a recurrent layer."""
    outputs = rng.permutation(3 if kind == "LSTM" else 2)[:int(rng.integers(1, 4))]
    after = {"linear_before_reset": int(rng.integers(2))} if kind == "GRU" else {}
    model = recurrent(
        kind, values=int(rng.integers(1, 14)), size=int(rng.choice([1, 4, rng.integers(1, 20)])),
        steps=int(rng.integers(1, 5)), states=bool(rng.integers(2)), bias=bool(rng.random() < 0.7),
        direction=str(rng.choice(["forward", "reverse", "bidirectional"])),
        outputs=tuple(outputs.tolist()), **after)
    source = load_float(model)
    frames = [{name: rng.standard_normal(shape).astype(np.float32)
               for name, shape in source.shapes.items()} for _ in range(4)]
    return to_int8(source, frames)


# Operators of transformers --------------------------------------------------------------------

def _tokens(rng: np.random.Generator, most: int = 40) -> tuple[int, int]:
    """Height and width of a plane of as many pixels as there are tokens."""
    return int(rng.choice([1, rng.integers(2, 10), rng.integers(2, most + 1)])), 1


def _count(rng: np.random.Generator, most: int = 24) -> int:
    return int(rng.integers(1, most + 1))


def _graph(rng: np.random.Generator, channels: int, plane: tuple[int, int], *nodes: Node,
           outputs: tuple[str, ...] = ()) -> FloatGraph:
    return FloatGraph(seed=int(rng.integers(1 << 31)), inputs={"x": (channels, *plane)},
                      nodes=nodes, outputs=outputs or (nodes[-1].name,))


def _attention(rng: np.random.Generator, source: str, *, softmax: bool) -> list[Node]:
    """Nodes up to the context ``seen``, with all of what it is made of as its own products."""
    heads = int(rng.choice([1, 2, 3, 3, 5]))
    depth = int(rng.integers(1, 10))
    return [*(Node(name, "Conv", (source,), filters=heads * depth) for name in "qkv"),
            Node("seen", "Attend", ("q", "k", "v"), group=heads, count_pads=softmax)]


def _matmul(rng: np.random.Generator) -> FloatGraph:
    """Both products of an attention without a softmax."""
    return _graph(rng, _count(rng, 12), _tokens(rng), *_attention(rng, "x", softmax=False),
                  Node("y", "Conv", ("seen",), filters=_count(rng)))


def _softmax(rng: np.random.Generator) -> FloatGraph:
    """Rows of up to 200 channels. The host divides what nothing on the accelerator reads."""
    length = int(rng.choice([1, rng.integers(2, 30), rng.integers(30, 201)]))
    plane = int(rng.integers(1, 12)), int(rng.integers(1, 6))
    return _graph(rng, _count(rng, 8), plane, Node("rows", "Conv", ("x",), filters=length),
                  Node("shares", "Shares", ("rows",)),
                  Node("y", "Conv", ("shares",), filters=_count(rng)))


def _normalization(rng: np.random.Generator) -> FloatGraph:
    """Rows of all lengths that are normalized."""
    plane = int(rng.integers(1, 14)), int(rng.choice([1, 1, rng.integers(1, 8)]))
    return _graph(rng, _count(rng, 12), plane,
                  Node("rows", "Conv", ("x",), filters=8 * int(rng.integers(1, 9))),
                  Node("normal", "Normalize", ("rows",), bias=bool(rng.random() < 0.8)),
                  *[Node("y", "Conv", ("normal",), filters=_count(rng))][:int(rng.integers(2))])


def _transformer(rng: np.random.Generator) -> FloatGraph:
    """A layer of a transformer, and at times its context as an output of its own."""
    width = 8 * int(rng.integers(1, 5))
    return _graph(
        rng, width, _tokens(rng, 24), Node("n1", "Normalize", ("x",)),
        *_attention(rng, "n1", softmax=True),
        Node("joined", "Conv", ("seen",), filters=width), Node("a1", "Add", ("x", "joined")),
        Node("n2", "Normalize", ("a1",)),
        Node("wide", "Conv", ("n2",), filters=int(rng.integers(width, 2 * width + 1))),
        Node("bent", str(rng.choice(["Relu", "Sigmoid", "Tanh"])), ("wide",)),
        Node("narrow", "Conv", ("bent",), filters=width), Node("y", "Add", ("narrow", "a1")),
        outputs=("y", "seen") if rng.random() < 0.3 else ("y",))


_CELLS = ("LSTM", "GRU", "RNN")
_GRAPHS: dict[str, Callable[[np.random.Generator], FloatGraph]] = {
    "MatMul": _matmul, "Softmax": _softmax, "LayerNormalization": _normalization,
    "transformer": _transformer}

KINDS = {"MatMul": {"MatMul"}, "Softmax": {"Softmax"}, "LayerNormalization": {"LayerNormalization"},
         "transformer": {"MatMul", "Softmax", "LayerNormalization"},
         **{cell: {"Conv"} for cell in _CELLS}}
"""What there is, and the operators of each that the accelerator has to compute."""
