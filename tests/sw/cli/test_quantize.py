import numpy as np
import onnx
import pytest
from float_models import batch_norm_cnn, spoilt
from PIL import Image

from weft import cli
from weft.digits import MODEL


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "float.onnx"
    onnx.save(batch_norm_cnn(batch="N", dead=(3,), opset=11, ir_version=6), path)
    return path


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "pictures"
    path.mkdir()
    for number in range(4):
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(path / f"{number}.png")
    return path


@pytest.fixture
def run(capsys):
    """Runs the command line; gives its exit code, standard output and standard error."""
    def call(*arguments):
        try:
            code = cli.main([str(argument) for argument in arguments])
        except SystemExit as end:   # of the parser
            code = end.code
        return code, *capsys.readouterr()
    return call


@pytest.fixture
def refuse(run, model, tmp_path):
    """Runs ``weft quantize``; gives its one-line error. Nothing is written."""
    def call(*arguments, source=model):
        before = sorted(tmp_path.rglob("*"))
        code, out, err = run("quantize", source, "-o", tmp_path / "int8.onnx", *arguments)
        assert code == 2 and out == "" and "Traceback" not in err
        assert sorted(tmp_path.rglob("*")) == before
        return err.splitlines()[-1].partition("error: ")[2]
    return call


def test_images_to_a_network_that_runs(run, model, folder, tmp_path):
    (tmp_path / "labels.txt").write_text("1\n2\n3\n4\n")
    target = tmp_path / "int8.onnx"
    code, out, err = run("quantize", model, "-o", target, "--calibrate", folder, "--labels",
                         tmp_path / "labels.txt", "--mean", "0.5", "--std", "0.2,0.2,0.2")
    assert code == 0
    assert "conv2" in out and "SNR" in out
    assert "top result: as that of the float model for 4 of 4 frames (100.0%)" in out
    assert "accuracy: float " in out
    assert out.splitlines()[-1] == \
        f"{target}: 5 of 5 operators on the accelerator (base) in 1 part"
    assert "Calibrating float.onnx on 4 frames" in err and "Warning" not in err
    assert run("check", target, "--strict")[0] == 0
    code, out, _err = run("run", target, "--device", "functional", "--verify", "--random", 3)
    assert code == 0 and "\n0 of " in out


def test_noise_warns_and_options_change_the_network(run, model, tmp_path):
    found = set()
    for number, options in enumerate([(), ("--per-tensor",), ("--method", "percentile"),
                                      ("--exclude", "conv1", "fc"), ("--seed", "1")]):
        options = [option.replace("fc", "logits") for option in options]
        target = tmp_path / f"{number}.onnx"
        code, out, err = run("quantize", model, "-o", target, "--random", "4", *options)
        assert code == 0 and "Warning: calibrated with noise" in err
        assert ("the host runs Conv" in out) == ("--exclude" in options)
        found.add(target.read_bytes())
    assert len(found) == 5


def test_float_model_names_this_command(run, model):
    code, _out, err = run("run", model, "--device", "functional")
    assert code == 2
    assert err.splitlines()[-1] == (
        f"weft: error: float.onnx is a float model: quantize it with weft quantize {model} -o "
        f"{model.with_name('float_int8.onnx')} --calibrate DATA (a folder of images, or an .npz "
        f"file), or on the way with --quantize DATA")
    for command in ("check", "estimate", "compile"):
        assert "weft quantize" in run(command, model)[2]


def test_shape_of_a_dynamic_input(run, refuse, tmp_path):
    path = tmp_path / "dynamic.onnx"
    onnx.save(batch_norm_cnn(batch="N", size="S"), path)
    assert refuse("--random", "2", source=path).endswith("give sizes with --input-shape "
                                                         "image=1,3,N,N")
    code, out, _err = run("quantize", path, "-o", tmp_path / "int8.onnx", "--random", "2",
                          "--input-shape", "image=1,3,12,12")
    assert code == 0 and "5 of 5 operators" in out


def test_bad_calibration_wrong(refuse, tmp_path):
    (tmp_path / "empty").mkdir()
    assert refuse("--calibrate", tmp_path / "empty").endswith("it has none")
    assert refuse("--calibrate", tmp_path / "none") == \
        f"Calibration {tmp_path / 'none'} must be a folder of images or an .npz file"
    path = tmp_path / "x.npz"
    np.savez(path, other=np.zeros((2, 3, 16, 16)))
    assert refuse("--calibrate", path) == \
        f"Calibration {path} must have an array 'image'; it has 'other'"
    np.savez(path, image=np.zeros((2, 3, 16, 8)))
    assert refuse("--calibrate", path) == (f"Array 'image' of calibration {path} must have shape "
                                           f"[frames, 3, 16, 16], not [2, 3, 16, 8]")
    path.write_text("no array")
    assert refuse("--calibrate", path).startswith(f"Inputs {path} must be an .npz file")
    assert refuse("--random", "0") == "Number of random frames must be at least 1, not 0"


def test_bad_labels_wrong(refuse, folder, tmp_path):
    path = tmp_path / "labels.txt"
    for text, message in (
            ("1\n2\n", "Labels must be 4, one for each frame, not 2"),
            ("1\ncat\n", f"Label 2 of {path} must be a number, not 'cat'"),
            ("1\n2\n3\n10\n", "Label 4 must be 0 to 9, not 10")):
        path.write_text(text)
        assert refuse("--calibrate", folder, "--labels", path) == message
    assert refuse("--calibrate", folder, "--labels", tmp_path / "none.txt") == \
        f"Labels {tmp_path / 'none.txt'} cannot be read: No such file or directory"
    assert refuse("--random", "2", "--labels", path) == \
        "Option --labels needs --calibrate: noise is of no class"


def test_bad_models_wrong(refuse, tmp_path):
    assert refuse("--random", "2", source=MODEL) == \
        "digits_int8.onnx is quantized already: weft run takes it as it is"
    assert refuse("--random", "2", source=tmp_path / "none.onnx") == \
        f"Model file '{tmp_path / 'none.onnx'}' does not exist"
    (tmp_path / "text.onnx").write_text("no model")
    assert refuse("--random", "2", source=tmp_path / "text.onnx") == \
        "text.onnx is not an ONNX file"


def test_bad_options_wrong(refuse):
    assert refuse("--random", "2", "--exclude", "conv9").startswith("Excluded node 'conv9' must "
                                                                    "be one of the model's")
    assert refuse("--random", "2", "--input-shape", "image=1,a") == \
        "argument --input-shape: must be like NAME=1,3,224,224, not 'image=1,a'"
    assert refuse("--random", "2", "--input-shape", "x=1,3,16,16") == \
        "Input 'x' of a shape must be one of the model's: image"
    assert refuse("--random", "2", "--mean", "a") == \
        "argument --mean: must be numbers with commas between, not 'a'"
    assert refuse("--random", "2", "--std", "2") == \
        "Option --std needs --calibrate with a folder of images"
    assert refuse("--random", "2", "--method", "best").startswith("argument --method")
    assert "--calibrate" in refuse()


def test_output_that_cannot_be_written_wrong(run, model, tmp_path):
    for target, message in ((tmp_path / "none" / "y.onnx", "there is no folder"),
                            (tmp_path, "it is a folder"), (model, "not that of the model")):
        before = model.read_bytes()
        code, out, err = run("quantize", model, "-o", target, "--random", "2")
        assert code == 2 and out == "" and message in err and model.read_bytes() == before


# On the way to another command --------------------------------------------------------------------

def test_float_network_runs_with_calibration_data(run, model, folder, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run("run", model, "--quantize", folder, "--device", "functional", "--verify")
    assert code == 0 and "\n0 of " in out and "float.onnx on base" in out
    assert (f"The int8 network is not kept; this does: weft quantize {model} -o "
            f"{model.with_name('float_int8.onnx')} --calibrate {folder}") in err.splitlines()
    assert sorted(tmp_path.rglob("*")) == before


def test_every_command_takes_a_float_network(run, model, tmp_path):
    images = tmp_path / "x.npz"
    np.savez(images, image=np.random.default_rng(0).standard_normal((3, 3, 16, 16)))
    for command, rest in (("check", ["--strict"]), ("estimate", []), ("compile", [])):
        for data in (images, "random:2"):
            code, out, err = run(command, model, "--quantize", data, "--config", "tiny", *rest)
            assert code == 0 and "tiny" in out
            assert ("Warning: calibrated with noise" in err) == (data == "random:2")
    assert "--random 2" in err


def test_kept_network_is_the_same(run, model, tmp_path):
    _code, quick, _err = run("compile", model, "--quantize", "random:2", "--dump")
    run("quantize", model, "-o", tmp_path / "float.onnx.int8.onnx", "--random", "2")
    _code, kept, _err = run("compile", tmp_path / "float.onnx.int8.onnx", "--dump")
    assert len(kept) > 1000 and kept.splitlines()[1:] == quick.splitlines()[1:]


def test_bad_data_on_the_way_wrong(run, model, tmp_path):
    def refused(*arguments):
        code, out, err = run(*arguments)
        assert code == 2 and out == ""
        return err.splitlines()[-1].partition("error: ")[2]

    assert refused("check", model, "--quantize", "random:x") == \
        "Noise must be random:N with a number of frames, not 'random:x'"
    assert refused("check", model, "--quantize", "none") == \
        "Calibration none must be a folder of images or an .npz file"
    assert refused("run", MODEL, "--quantize", "random:2") == \
        "digits_int8.onnx is quantized already: weft run takes it as it is"
    assert refused("estimate", "--resources", "ulx3s-25f", "--quantize", "random:2") == \
        "Option --quantize needs a model, not --resources"
    data = tmp_path / "x.npz"
    np.savez(data, image=np.zeros((1, 3, 16, 16)))
    assert refused("run", model, "--quantize", data, "--output", data).endswith(
        "must be a file of its own, not that of --quantize")


def test_unreadable_image_wrong(refuse, folder):
    (folder / "2.png").write_bytes(b"no image")
    assert refuse("--calibrate", folder).startswith(f"Image {folder / '2.png'} cannot be read: ")


def test_fixed_batch_becomes_one_frame(run, tmp_path):
    path = tmp_path / "batch.onnx"
    onnx.save(batch_norm_cnn(batch=4), path)
    code, out, err = run("quantize", path, "-o", tmp_path / "int8.onnx", "--random", "2",
                         "--input-shape", "image=1,3,16,16")
    assert code == 0 and "5 of 5 operators" in out
    assert "batch.onnx has a batch of 4: the int8 network takes one frame at a time" in err


def test_weights_that_are_no_numbers_wrong(refuse, tmp_path):
    path = tmp_path / "nan.onnx"
    onnx.save(spoilt(batch_norm_cnn(), "w1", np.nan), path)
    assert refuse("--random", "2", source=path) == (
        "Conv 'conv1' of nan.onnx must have finite weights: 1 of 432 values of 'w1' are not, such "
        "as nan")
