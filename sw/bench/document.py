"""The page of results: ``python -m weft.bench.document > docs/benchmarks.md`` makes it out of what
``weft bench --record`` recorded."""

from collections.abc import Iterable, Sequence

from . import baseline, scale_sim
from .markdown import escape, number, table
from .measure import LayerMeasurement, Measurement
from .scale_sim import Comparison
from .suite import CONFIGS, NETWORKS

__all__ = ["benchmark_page"]


_INTRODUCTION = """\
# Benchmarks

Measured on the simulated Verilog, with a memory that answers after 32 cycles and moves a beat per
cycle in each direction. The cycles are the same on every machine; the speed of the simulation is
not. `weft bench` measures them again, `weft bench --check` compares them with those recorded here
([cli.md](cli.md#weft-bench)). This page is made by

    weft bench --record
    python -m weft.bench.document > docs/benchmarks.md"""

_FRAMES = """\
## Frames

From doorbell to interrupt: input, all layers, output. A **cold** frame loads all weights from
external memory; a **warm** one finds them on chip, from the frame before. Where they do not all
fit, every frame is a cold one. Utilization is `MACs / (cycles * rows * cols)`, depthwise
convolutions included: those run on the vector engine, so it can be above 100 %. MACs per multiplier
and cycle count the multipliers of the array. A frame's limit is what it takes at least of the
array, the vector engine, or the memory port in either direction, were that all it takes
([cli.md](cli.md)). These three are of the warm frame, if there is one. Traffic is everything that
is read and written, commands included. Next to measured cycles stands by how much the estimate
without a simulator (`weft estimate`) is off."""

_CONFIGURATIONS = """\
## Configurations

The fast inner product takes one multiplier for two MACs, and a column of multipliers more (alpha):
so `2 * cols / (cols + 1)` MACs per multiplier and cycle is what the array can reach. The array
multiplies 9 by 9 bits. The multipliers of requantization (of float32 mantissas; matrix and vector
engine have their own) and of the vector engine (8-bit operands) do not count there; this is how
many there are."""

_KERNELS = """\
## Single layers

All data on chip: the cycles in which the matrix engine had a command of the layer, in a warm
frame."""

_SCALE_SIM = """\
## Beside SCALE-Sim

[SCALE-Sim](https://pypi.org/project/scalesim/) {version} models an array of plain
multiply-accumulate units, weight-stationary like ours and of the same rows and columns, fed by a
memory that is always fast enough. Convolutions are given as matrix products; a depthwise
convolution is a product for each channel, which such an array is bad at and our vector engine is
made for. Layers that are no products (adds, poolings) are left out on both sides. Ours are the
cycles of a layer in the whole network, from the end of the layer before, in a warm frame if there
is one; below 1 we take fewer cycles. Layers are listed of networks that have at most {listed};
`benchmarks/scalesim.json` has the others'. `weft bench --record --scalesim` runs it again."""

_LISTED_LAYERS = 30


def benchmark_page(measurements: Iterable[Measurement],
                   comparisons: Iterable[Comparison] = ()) -> str:
    """The results as Markdown, in the order of the suite."""
    order = {name: number for number, name in enumerate([*NETWORKS, *CONFIGS])}
    results = sorted(measurements, key=lambda each: (order[each.network], order[each.config]))
    parts = [_INTRODUCTION, _CONFIGURATIONS, _configurations(results), _FRAMES,
             _frames([each for each in results if each.kernel_cycles is None])]
    kernels = [each for each in results if each.kernel_cycles is not None]
    if kernels:
        parts += [_KERNELS, _kernels(kernels)]
    parts += _beside_scale_sim(results, list(comparisons))
    return "\n\n".join(parts) + "\n"


def _error(estimate: int | None, cycles: int | None) -> str:
    return f"{estimate / cycles - 1:+.2%}" if estimate and cycles else ""


def _configurations(results: Sequence[Measurement]) -> str:
    used = {each.config for each in results}
    return table(
        {"config": "<", "MACs per cycle": ">", "multipliers of the array": ">",
         "of them alpha": ">", "requantization": ">", "vector engine": ">", "activations": ">",
         "weights": ">", "memory port": ">"},
        ((name, f"{config.rows} x {config.cols}", config.multipliers,
          config.multipliers - config.pe_rows * config.cols, 2 * config.requant_lanes,
          config.rows * config.vector_taps, f"{config.activation_bytes // 1024} KiB",
          f"{config.weight_bytes // 1024} KiB", f"{config.axi_data_width} bit")
         for name, config in CONFIGS.items() if name in used))


def _frames(results: Sequence[Measurement]) -> str:
    return table(
        {"network": "<", "MACs": ">", "config": "<", "cold cycles": ">", "estimate": ">",
         "warm cycles": ">", "estimate ": ">", "utilization": ">",
         "MACs per multiplier and cycle": ">", "reached of the limit": ">", "cold bytes": ">",
         "warm bytes": ">", "simulated kcycles/s": ">"},
        ((NETWORKS[each.network].title, number(each.macs), each.config,
          number(each.cycles_cold), _error(each.estimate_cold, each.cycles_cold),
          number(each.cycles_warm), _error(each.estimate_warm, each.cycles_warm),
          f"{each.utilization:.1%}", f"{each.macs_per_multiplier:.2f}",
          f"{each.reached:.0%}, {each.limit}" if each.reached else "",
          number(each.dram_bytes_cold), number(each.dram_bytes_warm),
          f"{each.sim_cycles_per_second / 1000:,.0f}")
         for each in results))


def _kernels(results: Sequence[Measurement]) -> str:
    def row(each: Measurement) -> tuple[str, ...]:
        cycles, config = each.kernel_cycles or 1, CONFIGS[each.config]
        rate = each.macs / cycles
        return (NETWORKS[each.network].title, number(each.macs), each.config, number(cycles),
                f"{rate:.1f}", f"{rate / (config.rows * config.cols):.1%}",
                f"{rate / config.multipliers:.2f}")

    return table({"layer": "<", "MACs": ">", "config": "<", "cycles": ">", "MACs per cycle": ">",
                   "utilization": ">", "MACs per multiplier and cycle": ">"}, map(row, results))


def _beside_scale_sim(results: Sequence[Measurement],
                      comparisons: Sequence[Comparison]) -> list[str]:
    pairs: dict[tuple[str, str], list[tuple[LayerMeasurement, Comparison]]] = {}
    for result in results:
        layers = {layer.name: layer for layer in result.layers}
        found = [(layers[each.layer], each) for each in comparisons
                 if (each.network, each.config) == (result.network, result.config)
                 and each.layer in layers]
        if found:
            pairs[result.network, result.config] = found
    if not pairs:
        return []

    def row(names: Sequence[str], ours: int, theirs: int) -> tuple[str, ...]:
        return *names, number(ours), number(theirs), f"{ours / theirs:.2f}"

    figures = {"Weft": ">", "SCALE-Sim": ">", "Weft / SCALE-Sim": ">"}
    version = comparisons[0].version
    parts = [_SCALE_SIM.format(version=version, listed=_LISTED_LAYERS), table(
        {"network": "<", "config": "<", **figures},
        (row((NETWORKS[network].title, config), sum(layer.cycles for layer, _ in found),
             sum(each.cycles for _, each in found))
         for (network, config), found in pairs.items()))]
    for (network, config), found in pairs.items():
        if 1 < len(found) <= _LISTED_LAYERS:
            parts += [f"### {NETWORKS[network].title} on {config}", table(
                {"layer": "<", "operator": "<", "MACs": ">", **figures},
                (row((escape(layer.name), _operator(layer), number(layer.macs)), layer.cycles,
                     each.cycles) for layer, each in found))]
    return parts


def _operator(layer: LayerMeasurement) -> str:
    return f"{layer.op}, depthwise" if layer.gemm[0] > 1 else layer.op


if __name__ == "__main__":
    print(benchmark_page(baseline.load(), scale_sim.load()), end="")
