"""A random network and the circumstances under which it runs: accelerator, quantization, memory."""

import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
import onnx
from configs import ATTENTION_PLAIN, LINES, ODD, PRODUCTS
from exported_models import as_exported
from models import quantize_dynamically, quantize_model
from onnxruntime.quantization import QuantFormat

from fuzz.networks.draw import draw_graph
from fuzz.networks.graphs import FloatGraph
from weft.boards.registry import BOARDS
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.presets import PRESETS
from weft.quantize.interpolation import part_scales

__all__ = ["CONFIGS", "Case", "Circumstances", "draw_case", "draw_memories", "quantized"]


CONFIGS: dict[str, AcceleratorConfig] = {
    **PRESETS,
    "plain": PRESETS["tiny"].replace(fip=False),
    "odd": ODD,
    "two_by_three": PRESETS["tiny"].replace(rows=2, cols=3, requant_lanes=1),
    "fixed": PRESETS["tiny"].replace(fixed_point=True),
    "products": PRODUCTS,
    "attention_plain": ATTENTION_PLAIN,
    "lines": LINES,
    "sequential": BOARDS["icebreaker"].config.replace(axi_addr_width=20),
}
"""By name."""

_MEMORIES = ("activation_bytes", "weight_bytes", "accumulator_pixels", "parameter_channels",
             "vector_entries")


@dataclass(frozen=True, kw_only=True)
class Circumstances:
    """All but the network itself.

    Parameters
    ----------
    config : :class:`str`
        Of :data:`CONFIGS`: that of the device.
    memories : :class:`dict`
        Fields of the configuration for which it is compiled, smaller than the device's.
    tflite : :class:`bool`
        By chance a layer that can have a rule of TensorFlow Lite has one.
    batch : :class:`int`
    keep_tensors : :class:`bool`
        Every layer is stored and compared, not only the outputs; which takes the memory's time.
    grain : (convolution, vector) or :py:`None`
        Cycles of a command, at least, instead of a search for the best split of layers into
        commands: that takes most of a compilation, and finds but a few of all splits.
    latency : :class:`int`
    stall_probability : :class:`float`
    seed : :class:`int`
        Of calibration, input, memory and the order in which the functional device executes.
    """

    config: str
    memories: dict[str, int] = field(default_factory=dict)
    tflite: bool = False
    batch: int = 1
    keep_tensors: bool = True
    grain: tuple[float, float] | None = None
    latency: int = 32
    stall_probability: float = 0.0
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Case(Circumstances):
    """A network and all circumstances under which it runs.

    Parameters
    ----------
    graph : :class:`FloatGraph`
    per_channel, unsigned, reduce_range, operators : :class:`bool`
        For the quantizer: a scale for each channel, uint8 activations, weights of 7 bits,
        QOperator form instead of QDQ.
    dynamic : :class:`bool`
        Quantized dynamically, without calibration: the host finds the scales of each frame. Of the
        others of these only the first three make a difference then.
    exported : :class:`bool`
        In QDQ form, written as exporters of quantization-aware training do.
    """

    graph: FloatGraph
    per_channel: bool = True
    unsigned: bool = False
    reduce_range: bool = False
    operators: bool = False
    exported: bool = False
    dynamic: bool = False

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "graph": self.graph.to_dict()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """From what :meth:`to_dict` made."""
        grain = values["grain"]
        return cls(**{**values, "graph": FloatGraph.from_dict(values["graph"]),
                      "grain": grain and tuple(grain)})


def draw_memories(rng: np.random.Generator, real: AcceleratorConfig) -> dict[str, int]:
    """Smaller memories than those of a configuration, for the compiler."""
    memories = {}
    for name in _MEMORIES:
        smaller = getattr(real, name) >> int(rng.integers(0, 8))
        try:
            real.replace(**{name: smaller})
        except ValueError:
            continue
        memories[name] = smaller
    return memories


def draw_case(seed: int, index: int, config: str) -> Case:
    """Case ``index`` of a seed, on a configuration: always the same."""
    rng = np.random.default_rng([seed, index, *hashlib.sha256(config.encode()).digest()[:4]])
    real = CONFIGS[config]
    graph = draw_graph(rng, lanes=(real.rows, real.cols), vector=real.vector,
                       products=real.products, macs=4000 * real.macs_per_cycle)
    memories = draw_memories(rng, real) if rng.random() < 0.4 else {}
    grain = tuple(float(2 ** rng.uniform(3, 10)) for _ in range(2)) if rng.random() < 0.85 else None
    return Case(
        graph=graph, config=config, memories=memories, grain=grain,
        per_channel=bool(rng.random() < 0.5), unsigned=bool(rng.random() < 0.4),
        reduce_range=bool(rng.random() < 0.2), operators=bool(rng.random() < 0.25),
        batch=int(rng.choice([1, 1, 1, 2, 3, 4])), keep_tensors=bool(rng.random() < 0.5),
        latency=int(rng.choice([1, 2, 8, 32, 100])),
        stall_probability=float(rng.choice([0.0, 0.0, 0.2, 0.6])), seed=int(rng.integers(1 << 31)),
        exported=bool(rng.random() < 0.3), dynamic=bool(rng.random() < 0.1),
        tflite=real.fixed_point and bool(rng.random() < 0.9))


def quantized(case: Case) -> onnx.ModelProto:
    """The int8 model of a case."""
    if case.dynamic:
        return quantize_dynamically(
            case.graph.to_onnx(), per_channel=case.per_channel, unsigned=case.unsigned,
            reduce_range=case.reduce_range)
    model = quantize_model(
        np.random.default_rng(case.seed), case.graph.to_onnx(),
        per_channel=case.per_channel, unsigned=case.unsigned, reduce_range=case.reduce_range,
        quant_format=QuantFormat.QOperator if case.operators else QuantFormat.QDQ)
    part_scales(model)
    if case.exported and not case.operators:
        model = as_exported(model, np.random.default_rng([case.seed, 1]))
    return model
