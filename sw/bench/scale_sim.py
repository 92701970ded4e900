"""Cycles of the same layers on SCALE-Sim, a simulator of plain systolic arrays.

SCALE-Sim (PyPI: ``scalesim``) models an array of multipliers that take one pair of operands each
per cycle, with ideal control and enough memory bandwidth: a yardstick for ours. It is run as a
program of its own, because it wants an older numpy.
"""

import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from weft.errors import InputError, ToolError
from weft.files.output import write_text
from weft.hw.isa.config import AcceleratorConfig

from .measure import LayerMeasurement, Measurement
from .suite import CONFIGS

__all__ = ["SCALE_SIM", "Comparison", "Product", "compare_layers", "load", "save",
           "scale_sim_files"]


SCALE_SIM = Path("benchmarks/scalesim.json")
"""Recorded comparisons, in the project's folder."""

_VERSION = "3.0.0"

_CONFIG = """\
[general]
run_name = run
[architecture_presets]
ArrayHeight = {rows}
ArrayWidth = {cols}
ifmapsramszkB = {activations}
filtersramszkB = {weights}
ofmapsramszkB = {activations}
IfmapOffset = 0
FilterOffset = 10000000
OfmapOffset = 20000000
Dataflow = ws
Bandwidth = 10
ReadRequestBuffer = 32
WriteRequestBuffer = 32
[layout]
IfmapCustomLayout = False
FilterCustomLayout = False
IfmapSRAMBankBandwidth = 10
IfmapSRAMBankNum = 10
IfmapSRAMBankPort = 2
FilterSRAMBankBandwidth = 10
FilterSRAMBankNum = 10
FilterSRAMBankPort = 2
[sparsity]
SparsitySupport = False
SparseRep = ellpack_block
OptimizedMapping = False
BlockSize = 8
RandomNumberGeneratorSeed = 40
[run_presets]
InterfaceBandwidth = CALC
UseRamulatorTrace = False
"""

# Its own command line writes traces of gigabytes, whatever it is told.
_PROGRAM = """\
from importlib.metadata import version
from scalesim.scale_sim import scalesim
print(version("scalesim"))
scalesim(save_disk_space=True, verbose=False, config="scale_sim.cfg", topology="topology.csv",
         layout="layout.csv", input_type_gemm=True).run_scale(top_path=".")
"""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A layer on both.

    Attributes
    ----------
    network, config, layer, op : :class:`str`
    macs : :class:`int`
    cycles : :class:`int` or :py:`None`
        SCALE-Sim's, without the loading of the first weights; times the number of products. What
        Weft takes stands in the baseline.
    version : :class:`str`
        Of SCALE-Sim.
    """

    network: str
    config: str
    layer: str
    op: str
    macs: int
    cycles: int
    version: str


def compare_layers(measurement: Measurement, *, python: str = sys.executable,
                   progress: Callable[[str], None] | None = None) -> list[Comparison]:
    """Runs those layers of a network that are matrix products on SCALE-Sim, weight-stationary.

    Parameters
    ----------
    measurement : :class:`weft.bench.measure.Measurement`
        Says which layers; its configuration gives the size of the array.
    python : :class:`str`
        A Python with SCALE-Sim.

    Raises
    ------
    ToolError
        If that has no SCALE-Sim that works, or it fails.
    """
    layers = [layer for layer in measurement.layers if layer.gemm]
    shapes = list(dict.fromkeys(_shape(layer) for layer in layers))
    if progress is not None:
        progress(f"SCALE-Sim: {measurement.network} on {measurement.config}, "
                 f"{len(shapes)} different layers")
    version, cycles = _run(shapes, CONFIGS[measurement.config], python)
    found = dict(zip(shapes, cycles, strict=True))
    return [Comparison(network=measurement.network, config=measurement.config, layer=layer.name,
                       op=layer.op, macs=layer.macs,
                       cycles=layer.gemm[0] * found[_shape(layer)], version=version)
            for layer in layers]


def _shape(layer: LayerMeasurement) -> tuple[int, int, int]:
    _, rows, columns, depth = layer.gemm
    return rows, columns, depth


class Product(NamedTuple):
    """A matrix product: rows of the result, columns of it, and the depth of a sum."""
    name: str
    rows: int
    columns: int
    depth: int


def scale_sim_files(products: Iterable[Product], config: AcceleratorConfig) -> dict[str, str]:
    """``scale_sim.cfg``, ``topology.csv`` of matrix products, and ``layout.csv``, which SCALE-Sim
    takes with ``-i gemm``."""
    listed = list(products)
    return {
        "scale_sim.cfg": _CONFIG.format(
            rows=config.rows, cols=config.cols, activations=config.activation_bytes // 1024,
            weights=config.weight_bytes // 1024),
        "topology.csv": "Layer, M, N, K,\n" + "".join(
            f"{each.name}, {each.rows}, {each.columns}, {each.depth},\n" for each in listed),
        "layout.csv": "Layer,\n" + "".join(f"{each.name},\n" for each in listed)}


def _run(shapes: Iterable[tuple[int, int, int]], config: AcceleratorConfig,
         python: str) -> tuple[str, list[int]]:
    """Version, and cycles of products of (rows, columns, depth)."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = scale_sim_files([Product(f"layer{index}", *shape)
                                 for index, shape in enumerate(shapes)], config)
        for title, text in files.items():
            (folder / title).write_text(text, encoding="utf-8")
        try:
            result = subprocess.run([python, "-c", _PROGRAM], cwd=folder, text=True,
                                    stdin=subprocess.DEVNULL, capture_output=True)
        except OSError as error:
            raise ToolError(f"SCALE-Sim cannot be started with {python}: {error.strerror}") \
                from None
        report = folder / "run" / "COMPUTE_REPORT.csv"
        if result.returncode or not report.is_file():
            last = (result.stderr.strip().splitlines() or ["no report was written"])[-1]
            raise ToolError(f"SCALE-Sim failed with {python} ({last}): give --scalesim a Python "
                            f"for which pip install scalesim=={_VERSION} 'numpy<2.4' was run")
        with report.open(encoding="utf-8") as file:
            table = list(csv.DictReader(file, skipinitialspace=True))
        return result.stdout.split()[0], [int(float(line["Total Cycles"])) for line in table]


def save(comparisons: Iterable[Comparison], path: Path = SCALE_SIM) -> None:
    """Writes comparisons, to be read with :func:`load`."""
    lines = ",\n".join(f" {json.dumps(asdict(each))}" for each in comparisons)
    write_text(path, f"[\n{lines}\n]\n")


def load(path: Path = SCALE_SIM) -> list[Comparison]:
    """The recorded comparisons; none if there is no such file.

    Raises
    ------
    InputError
        If the file is none of ours.
    """
    try:
        return [Comparison(**values) for values in json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"File {path} is not one of weft bench --scalesim: {error}") from None
