"""A network and a configuration for other simulators."""

import csv
import importlib.util
import subprocess
import sys

import pytest
import yaml
from places import ROOT

from weft.bench.exchange import FORMATS, accelergy_files, network_products
from weft.bench.scale_sim import scale_sim_files
from weft.cli import main
from weft.compiler.activity import EVENTS, Activity
from weft.digits import MODEL
from weft.frontend import partition
from weft.hw.isa.presets import PRESETS

CONFIG = PRESETS["small"]
PYTHON = ROOT / "build" / "scalesim" / "bin" / "python"
"""Of the environment that docs/cli.md tells to make for SCALE-Sim."""


def test_layers_are_matrix_products():
    graphs = partition(MODEL).graphs
    products = network_products(graphs)
    assert sum(each.rows * each.columns * each.depth * int((each.name.split("_x") + ["1"])[1])
               for each in products) == sum(
        layer.macs(graph.tensors[layer.output]) for graph in graphs for layer in graph.layers
        if layer.op in ("Conv", "Gemm", "MatMul"))
    assert len({each.name for each in products}) == len(products)


def test_scale_sim_files_are_of_the_configuration():
    files = scale_sim_files(network_products(partition(MODEL).graphs), CONFIG)
    assert "ArrayHeight = 8\nArrayWidth = 8\nifmapsramszkB = 96\n" in files["scale_sim.cfg"]
    rows = list(csv.reader(files["topology.csv"].splitlines(), skipinitialspace=True))
    assert rows[0][:4] == ["Layer", "M", "N", "K"]
    assert all(len(row) == 5 and all(int(size) > 0 for size in row[1:4]) for row in rows[1:])


def test_accelergy_counts_every_event_but_those_of_the_port():
    counts = {name: 1000 + index for index, name in enumerate(EVENTS)}
    files = accelergy_files(Activity(**counts), CONFIG)
    actions = yaml.safe_load(files["action_counts.yaml"])["action_counts"]["subtree"][0]
    parts = yaml.safe_load(files["architecture.yaml"])["architecture"]["subtree"][0]
    assert actions["name"] == parts["name"] == "small"
    assert [each["name"] for each in actions["local"]] == [each["name"] for each in parts["local"]]
    found = {action["counts"] for each in actions["local"] for action in each["action_counts"]}
    assert found == {count for name, count in counts.items() if not name.endswith("_beats")}
    activation = parts["local"][0]
    assert activation["attributes"] == {"width": 64, "depth": CONFIG.activation_depth // 4,
                                        "n_banks": 4}


@pytest.mark.parametrize("kind", FORMATS)
def test_command_line(tmp_path, capsys, kind):
    assert main(["export", str(MODEL), "--config", "small", "--to", kind,
                 "-o", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.split() == [str(path) for path in (
        tmp_path / "out" / name for name in
        {"scale-sim": ("scale_sim.cfg", "topology.csv", "layout.csv"),
         "accelergy": ("architecture.yaml", "action_counts.yaml")}[kind])]
    assert all(path.stat().st_size for path in (tmp_path / "out").iterdir())


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON.exists() and importlib.util.find_spec("scalesim") is None,
                    reason="SCALE-Sim is not installed")
def test_scale_sim_reads_its_files(tmp_path):
    assert main(["export", str(MODEL), "--config", "small", "--to", "scale-sim",
                 "-o", str(tmp_path)]) == 0
    program = ("from scalesim.scale_sim import scalesim; scalesim(save_disk_space=True, "
               "verbose=False, config='scale_sim.cfg', topology='topology.csv', "
               "layout='layout.csv', input_type_gemm=True).run_scale(top_path='.')")
    python = PYTHON if PYTHON.exists() else sys.executable
    subprocess.run([python, "-c", program], cwd=tmp_path, check=True, capture_output=True)
    with (tmp_path / "run" / "COMPUTE_REPORT.csv").open() as file:
        cycles = [float(row["Total Cycles"]) for row in csv.DictReader(file,
                                                                       skipinitialspace=True)]
    assert len(cycles) == len(network_products(partition(MODEL).graphs))
    assert all(each > 0 for each in cycles)
