"""The benchmark suite, its records and its page."""

import re
import sys
from dataclasses import replace
from math import prod
from pathlib import Path

import pytest
from places import MODELS, ROOT

from weft import cli
from weft.bench import baseline, scale_sim
from weft.bench.document import benchmark_page
from weft.bench.measure import LayerMeasurement, Measurement, measure
from weft.bench.mobile import MOBILE
from weft.bench.run import measure_all
from weft.bench.suite import CONFIGS, NETWORKS, Case, select
from weft.bench.transformer import TRANSFORMERS
from weft.errors import InputError, ToolError, WeftError
from weft.runtime.runner import run_frames

RECORDED = ROOT / "benchmarks" / "baseline.json"
SCALE_SIM = ROOT / "benchmarks" / "scalesim.json"

# Simulators that other tests build too, and seconds for all of them together.
FAST = [("digits", "base"), ("digits", "small"), ("digits", "wide"), ("digits", "tiny"),
        ("mobilenet_v1", "base"), ("conv3x3", "base"), ("conv1x1", "base")]
GIVEN = [("ic_resnet8_int8", "base"), ("kws_dscnn_int8", "base")]


ONLY_COLD = {"cycles_warm": None, "estimate_warm": None, "dram_bytes_warm": None}


def made_up(**changes):
    layer = LayerMeasurement(name="a|b", op="Conv", engine="matrix", shape=[4, 2, 2], macs=320,
                             cycles=70, engine_cycles=60, gemm=[1, 4, 4, 20])
    return replace(Measurement(
        network="digits", config="tiny", macs=320, cycles_cold=1000, cycles_warm=500,
        estimate_cold=999, estimate_warm=501,
        dram_bytes_cold=96, dram_bytes_warm=48, multipliers=10, utilization=0.04,
        macs_per_multiplier=0.064, sim_cycles_per_second=1e5, limit="array", limit_cycles=320,
        layers=[layer]), **changes)


# Records ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("network, config", [
    *FAST, *(pytest.param(*case, marks=pytest.mark.skipif(
        not MODELS.is_dir(), reason="needs ../shared/models")) for case in GIVEN)])
def test_no_frame_takes_more_cycles_than_recorded(network, config):
    recorded = {(each.network, each.config): each for each in baseline.load(RECORDED)}
    assert (network, config) in recorded
    measured = measure(Case(network=network, config=config), MODELS)
    grown = [str(change) for change in baseline.compare(recorded.values(), [measured])
             if change.share > baseline.TOLERANCE]
    assert grown == [], "mend it, or accept it with weft bench --record"
    assert all(prod(layer.gemm) == layer.macs for layer in measured.layers if layer.macs)


def test_page_is_that_of_the_record():
    page = benchmark_page(baseline.load(RECORDED), scale_sim.load(SCALE_SIM))
    assert (ROOT / "docs" / "benchmarks.md").read_text() == page, \
        "run python -m weft.bench.document > docs/benchmarks.md"


def test_a_change_names_network_config_and_cycles():
    old, new = made_up(), made_up(cycles_cold=1011, cycles_warm=495)
    cold, warm = baseline.compare([old, made_up(config="base")], [new])
    assert str(cold) == ("digits on tiny: a cold frame takes 1,011 cycles, 1,000 are recorded "
                         "(+1.1%)")
    assert str(warm) == "digits on tiny: a warm frame takes 495 cycles, 500 are recorded (-1.0%)"
    assert cold.share > baseline.TOLERANCE > warm.share
    assert baseline.compare([old], [old, made_up(config="base")]) == []


def test_constants_that_no_longer_stay_on_chip_are_growth():
    change, = baseline.compare([made_up()], [made_up(**ONLY_COLD)])
    assert (change.frame, change.old, change.new) == ("warm", 500, 1000)


def test_record_is_read_as_it_was_written(tmp_path):
    results = [made_up(), made_up(network="conv1x1", **ONLY_COLD)]
    baseline.save(results, tmp_path / "b.json")
    assert baseline.load(tmp_path / "b.json") == results


@pytest.mark.parametrize("text, problem", [
    ("[", "Expecting value: line 1 column 2 (char 1)"), ('{"format": 1}', "'results'"),
    ('{"format": 7, "results": []}', "its format is 7, not 1")])
def test_record_that_is_none(text, problem, tmp_path):
    path = tmp_path / "b.json"
    path.write_text(text)
    with pytest.raises(InputError) as error:
        baseline.load(path)
    assert str(error.value) == (f"Baseline {path} is not one of this weft bench ({problem}): "
                                f"remove it, and record one with weft bench --record")


# Suite --------------------------------------------------------------------------------------------

def test_suite_without_models_and_what_is_slow():
    cases = select()
    usual = {"digits", "mobilenet_v1", "conv3x3", "conv1x1"}
    assert {case.network for case in cases} == {*usual, "autoencoder", "autoencoder_16"}
    assert {case.config for case in cases} == {"base", "small", "wide", "tiny", "base_8x8"}
    slow = {(case.network, case.config) for case in set(select(slow=True)) - set(cases)}
    assert slow == {
        ("resnet18", "base_axi128"), *((network, "base_32x32") for network in usual),
        ("autoencoder", "base_axi128"), ("autoencoder_16", "base_axi128"),
        *((network, config) for network in MOBILE for config in ("base", "small", "base_axi128")),
        *((network, "base_attention") for network in TRANSFORMERS)}


def test_suite_takes_the_models_that_there_are(tmp_path):
    (tmp_path / "kws_dscnn_int8.onnx").touch()
    found = {case.network for case in select(models=tmp_path)}
    assert "kws_dscnn_int8" in found and "ic_resnet8_int8" not in found
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "ppocr_rec160.onnx").touch()
    found = {case.network for case in select(models=tmp_path, slow=True)}
    assert "ppocr_rec160" in found and "mp_face_landmark" not in found


def test_a_slow_case_that_is_named_is_measured():
    assert [str(case) for case in select(networks=["digits"], configs=["base_32x32"])] \
        == ["digits on base_32x32"]


@pytest.mark.parametrize("options, message", [
    ({"networks": ["alexnet"]}, f"Network must be one of {', '.join(NETWORKS)}, not 'alexnet'"),
    ({"configs": ["huge"]}, f"Config must be one of {', '.join(CONFIGS)}, not 'huge'"),
    ({"networks": ["resnet18"], "configs": ["tiny"]},
     "Network resnet18 is not measured on config tiny"),
    ({"models": Path("/nowhere")}, "Models /nowhere must be a folder")])
def test_suite_refuses(options, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        select(**options)


def test_error_of_a_case_names_the_case():
    message = ("ic_resnet8_int8 on tiny: Network ic_resnet8_int8 needs a folder with "
               "ic_resnet8_int8.onnx: name it with --models")
    with pytest.raises(WeftError, match=f"^{re.escape(message)}$"):
        measure_all([Case(network="ic_resnet8_int8", config="tiny")])


def test_wrong_bytes_are_no_measurement(monkeypatch):
    module = sys.modules[measure.__module__]
    monkeypatch.setattr(module, "run_frames", lambda *args, **options: replace(
        run_frames(*args, **options), differing=3, caveats=()))
    with pytest.raises(WeftError, match=r"^3 of \d+ output bytes differ from onnxruntime$"):
        measure(Case(network="digits", config="tiny"))


def test_jobs_wrong():
    with pytest.raises(InputError, match=r"^Number of jobs must be at least 1, not 0$"):
        measure_all(select(), jobs=0)


def test_cases_in_processes_give_what_one_process_gives():
    cases = [Case(network="digits", config=config) for config in ("tiny", "small")]
    several, one = (
        [replace(each, sim_cycles_per_second=0) for each in measure_all(cases, jobs=jobs)]
        for jobs in (2, 1))
    assert several == one
    tiny, _ = one
    assert tiny.macs == 351_232 and tiny.multipliers == 10
    assert tiny.utilization == pytest.approx(351_232 / tiny.cycles_cold / 16, abs=1e-4)
    assert tiny.macs_per_multiplier == pytest.approx(351_232 / tiny.cycles_cold / 10, abs=1e-4)
    assert [layer.gemm for layer in tiny.layers] \
        == [[1, 64, 32, 9], [1, 16, 64, 288], [1, 16, 32, 64], [1, 1, 10, 512]]
    assert all(0 < layer.engine_cycles <= tiny.cycles_cold for layer in tiny.layers)
    assert sum(layer.cycles for layer in tiny.layers) == tiny.cycles_cold


# Page ---------------------------------------------------------------------------------------------

def test_record_without_a_limit_is_of_before():
    values = made_up().to_dict()
    del values["limit"], values["limit_cycles"]
    old = Measurement.from_dict(values)
    assert (old.limit, old.reached) == ("", 0)
    assert "| 4.0% | 0.06 |  | 96 | 48 | 100 |\n" in benchmark_page([old])


def test_page_has_every_result_and_escapes_names():
    layer = scale_sim.Comparison(network="digits", config="tiny", layer="a|b", op="Conv", macs=320,
                                 cycles=140, version="3.0.0")
    page = benchmark_page([made_up(layers=made_up().layers * 2)], [layer, layer])
    assert ("| digits, 8x8 | 320 | tiny | 1,000 | -0.10% | 500 | +0.20% | 4.0% | 0.06 "
            "| 64%, array | 96 | 48 | 100 |\n") in page
    assert "| tiny | 4 x 4 | 10 | 2 | 4 | 12 | 64 KiB | 16 KiB | 32 bit |\n" in page
    assert "| a\\|b | Conv | 320 | 70 | 140 | 0.50 |\n" in page


# SCALE-Sim ----------------------------------------------------------------------------------------

def test_scale_sim_gets_each_product_once_and_counts_all(tmp_path):
    """With a stand-in that takes rows + columns + depth cycles."""
    stand_in = tmp_path / "python"
    stand_in.write_text(
        "#!/bin/sh\necho 3.0.0\nmkdir run\n"
        "awk -F', *' 'NR == 1 {print \"LayerID, Total Cycles (incl. prefetch), Total Cycles,\"}"
        " NR > 1 {print NR - 2 \", 0, \" $2 + $3 + $4 \",\"}' topology.csv"
        " > run/COMPUTE_REPORT.csv\n")
    stand_in.chmod(0o755)
    layer, = made_up().layers
    layers = [layer, replace(layer, name="again"), replace(layer, name="add", op="Add", gemm=[]),
              replace(layer, name="depthwise", gemm=[8, 4, 1, 9])]
    found = scale_sim.compare_layers(made_up(layers=layers), python=str(stand_in))
    assert [(each.layer, each.cycles) for each in found] \
        == [("a|b", 28), ("again", 28), ("depthwise", 8 * 14)]
    scale_sim.save(found, tmp_path / "s.json")
    assert scale_sim.load(tmp_path / "s.json") == found
    assert scale_sim.load(tmp_path / "none.json") == []


def test_scale_sim_that_is_not_there(tmp_path):
    with pytest.raises(ToolError) as error:
        scale_sim.compare_layers(made_up(), python="/nowhere/python")
    assert str(error.value) == ("SCALE-Sim cannot be started with /nowhere/python: No such file or "
                                "directory")
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho trouble >&2\nexit 1\n")
    python.chmod(0o755)
    with pytest.raises(ToolError) as error:
        scale_sim.compare_layers(made_up(), python=str(python))
    assert str(error.value) == (
        f"SCALE-Sim failed with {python} (trouble): give --scalesim a Python for which pip install "
        f"scalesim==3.0.0 'numpy<2.4' was run")


# weft bench ---------------------------------------------------------------------------------------

@pytest.fixture
def bench(capsys):
    """Runs ``weft bench`` on one case; gives its exit code, standard output and standard error."""
    def call(*options):
        code = cli.main(["bench", "--network", "digits", "--config", "tiny", "--jobs", "1",
                         *map(str, options)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err
    return call


def test_check_fails_when_a_frame_has_grown(bench, tmp_path):
    path = tmp_path / "b.json"
    code, out, _err = bench("--record", "--baseline", path)
    assert code == 0 and out.splitlines()[-1] == f"{path}: 1 recorded, 0 left as they were"
    assert bench("--check", "--baseline", path)[0] == 0

    result, = baseline.load(path)
    old = round(result.cycles_cold / 1.02)
    other = made_up(config="base")
    baseline.save([replace(result, cycles_cold=old), other], path)
    code, _out, err = bench("--check", "--baseline", path)
    assert code == 1
    assert err.splitlines()[-1] == (
        f"weft: error: digits on tiny: a cold frame takes {result.cycles_cold:,} cycles, {old:,} "
        f"are recorded (+2.0%); at most +1% is allowed: mend it, or accept it with weft bench "
        f"--record")

    code, out, _err = bench("--record", "--baseline", path)
    assert code == 0 and out.splitlines()[-1] == f"{path}: 1 recorded, 1 left as they were"
    assert [(each.network, each.config, each.cycles_cold) for each in baseline.load(path)] \
        == [("digits", "base", 1000), ("digits", "tiny", result.cycles_cold)]


def test_bench_writes_json_and_a_page(bench, tmp_path):
    assert bench("--json", tmp_path / "b.json", "--markdown", tmp_path / "b.md")[0] == 0
    assert (tmp_path / "b.md").read_text() == benchmark_page(baseline.load(tmp_path / "b.json"))


@pytest.mark.parametrize("options, message", [
    (["--check", "--baseline", "{folder}/b.json"],
     "Baseline {folder}/b.json cannot be read: No such file or directory; run this in the "
     "project's folder, name another file with --baseline, or record one with weft bench "
     "--record"),
    (["--record", "--baseline", "{folder}/none/b.json"],
     "Output {folder}/none/b.json cannot be written: there is no folder {folder}/none"),
    (["--json", "{folder}"], "Output {folder} cannot be written: it is a folder"),
    (["--network", "alexnet"], f"Network must be one of {', '.join(NETWORKS)}, not 'alexnet'")])
def test_bench_refuses(options, message, bench, tmp_path):
    code, out, err = bench(*(option.format(folder=tmp_path) for option in options))
    assert (code, out) == (2, "")
    assert err == f"weft: error: {message.format(folder=tmp_path)}\n"
    assert list(tmp_path.iterdir()) == []
