import logging
import re
import sys

import numpy as np
import onnx
import pytest
from float_models import batch_norm_cnn, digits_float, keywords, spoilt
from onnx import numpy_helper
from onnxruntime.quantization import qdq_loss_debug

import weft
from weft import compiler
from weft.bench.networks import NETWORKS
from weft.digits import MODEL, load, load_training
from weft.errors import CompileError, InputError, ModelError, ToolError
from weft.frontend import partition
from weft.hw.isa.presets import load_config
from weft.quantize import Quantization, quantize, random_frames
from weft.quantize.headroom import make_room
from weft.quantize.loss import layer_losses
from weft.quantize.source import load_float
from weft.quantize.static import quantize_frames
from weft.reference.golden import GoldenSession
from weft.runtime.runner import run_frames
from weft.runtime.session import InferenceSession


def images(count=12, size=16, channels=3):
    return np.random.default_rng(1).standard_normal((count, channels, size, size)) \
        .astype(np.float32)


def runs_as_onnxruntime(model, arrays):
    with InferenceSession(model, config="base", device="functional") as session:
        run = run_frames(session, {session.get_inputs()[0].name: arrays}, model="model",
                         device="functional", verify=True)
    return run.compared > 0 and run.differing == 0


@pytest.mark.parametrize("opset, ir_version, inputs, names", [
    (17, 8, False, True), (11, 6, False, True), (11, 3, True, False), (9, 4, False, True)])
def test_batch_normalization_is_folded_and_all_is_accelerated(opset, ir_version, inputs, names):
    model = batch_norm_cnn(opset=opset, ir_version=ir_version, inputs=inputs, names=names,
                           batch="N")
    before = model.SerializeToString()
    quantized = quantize(model, {"image": images()})
    assert model.SerializeToString() == before
    assert quantized.accelerated == (5, 5)
    assert quantized.top.agreeing == quantized.top.frames == quantized.frames == 12
    assert runs_as_onnxruntime(quantized.model, images(3))
    assert [layer.op for layer in quantized.layers] == \
        ["Input", "Conv", "Conv", "GlobalAveragePool", "Flatten", "Gemm"]
    assert all(30 < layer.snr < 60 for layer in quantized.layers)


@pytest.mark.parametrize("per_channel", [True, False])
def test_channels_that_batch_normalization_killed_compile(per_channel):
    frames = [{"image": image[None]} for image in images()]
    source = load_float(batch_norm_cnn(dead=(3, 5, 7)))
    alone = quantize_frames(source.model, frames, per_channel=per_channel)
    if per_channel:
        with pytest.raises(CompileError, match=r"may reach .* in its int32 sum with bias"):
            compiler.compile(partition(alone).graphs[0], load_config("base"))
    quantized = quantize(source, frames, settings=Quantization(per_channel=per_channel))
    assert quantized.accelerated == (5, 5)
    assert all(layer.snr > 30 for layer in quantized.layers)
    assert runs_as_onnxruntime(quantized.model, images(3))


def test_room_keeps_values():
    frames = [{"image": image[None]} for image in images()]
    model = quantize_frames(load_float(batch_norm_cnn(dead=(3,))).model, frames)
    before = GoldenSession(model).run(frames[0])["logits"]
    assert make_room(model) == 2    # the channel of each convolution
    biases = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer
              if tensor.data_type == onnx.TensorProto.INT32 and len(tensor.dims)]
    assert max(abs(bias.astype(np.int64)).max() for bias in biases) <= 1 << 30
    np.testing.assert_array_equal(GoldenSession(model).run(frames[0])["logits"], before)
    assert make_room(model) == 0


def test_digits_lose_less_than_half_a_point():
    training, held_out = load_training()[0], load()
    source = digits_float()
    quantized = quantize(source, {"input": training[:100]})
    sessions = GoldenSession(source), GoldenSession(quantized.model), GoldenSession(MODEL)
    exact, found, committed = (
        np.mean([session.run({"input": image[None]})["logits"].argmax() == label
                 for image, label in zip(*held_out)]) for session in sessions)
    assert exact > 0.97 and abs(exact - found) <= 0.005 and abs(committed - found) <= 0.005
    assert runs_as_onnxruntime(quantized.model, held_out[0][:20])


def test_labels_give_the_accuracy_of_both():
    pictures, labels = load()
    top = quantize(digits_float(), {"input": pictures[:60]}, labels=labels[:60].tolist()).top
    assert top.frames == 60 and top.right >= 57 and top.float_right >= 57
    wrong = [(label + 1) % 10 for label in labels[:60].tolist()]
    top = quantize(digits_float(), {"input": pictures[:60]}, labels=wrong).top
    assert top.right <= 3 and top.float_right <= 3 and top.agreeing >= 58


@pytest.mark.parametrize("method", ["entropy", "percentile"])
def test_method_changes_ranges(method):
    model = batch_norm_cnn()
    first, second = (quantize(model, {"image": images(8)}, settings=Quantization(method=each))
                     for each in ("minmax", method))
    assert first.model != second.model
    assert runs_as_onnxruntime(second.model, images(2))


def test_excluded_node_stays_float():
    quantized = quantize(batch_norm_cnn(), {"image": images(4)},
                         settings=Quantization(exclude=("conv2",)))
    done, operators = quantized.accelerated
    assert 0 < done < operators
    assert any(place.name == "conv2" and place.where.name == "HOST"
               for place in quantized.plan.placements)
    assert runs_as_onnxruntime(quantized.model, images(2))


def test_batch_normalization_without_a_convolution_becomes_one():
    model = batch_norm_cnn(bare=True)
    source = load_float(model)
    assert source.model.graph.node[0].op_type == "Conv"
    feeds = {"image": images(1)}
    np.testing.assert_allclose(GoldenSession(source.model).run(feeds)["logits"],
                               GoldenSession(model).run(feeds)["logits"], rtol=1e-4, atol=1e-4)
    quantized = quantize(source, {"image": images(4)})
    assert quantized.accelerated == (6, 6)
    assert runs_as_onnxruntime(quantized.model, images(2))


def test_windows_along_a_line_become_windows_over_planes():
    model, feeds = keywords(), random_frames({"features": (1, 10, 20)}, 4)
    source = load_float(model)
    assert {node.op_type for node in source.model.graph.node} >= {"Unsqueeze", "Squeeze"}
    assert not any(node.op_type == "BatchNormalization" for node in source.model.graph.node)
    np.testing.assert_allclose(GoldenSession(source.model).run(feeds[0])["scores"],
                               GoldenSession(model).run(feeds[0])["scores"], rtol=1e-4, atol=1e-4)
    quantized = quantize(source, feeds)
    assert [place.op for place in quantized.plan.placements if place.where.name == "HOST"] == \
        ["Unsqueeze", "QuantizeLinear", "DequantizeLinear"]
    assert min(layer.snr for layer in quantized.layers) > 25
    assert runs_as_onnxruntime(quantized.model, np.concatenate(
        [frame["features"] for frame in feeds]))


@pytest.mark.parametrize("name", ["unet", "mobilenet_v2_block"])
def test_well_known_shapes_keep_their_signal(name):
    source = load_float(NETWORKS[name](np.random.default_rng(0)))
    quantized = quantize(source, random_frames(source.shapes, 3))
    done, operators = quantized.accelerated
    assert done == operators - 1 and min(layer.snr for layer in quantized.layers) > 25
    arrays, = random_frames(source.shapes, 1)
    assert runs_as_onnxruntime(quantized.model, *arrays.values())


def test_nothing_to_quantize_wrong():
    with pytest.raises(ModelError, match=r"^cnn has no operator that can be quantized and is not "
                                         r"excluded$"):
        quantize(batch_norm_cnn(), {"image": images(2)}, settings=Quantization(
            exclude=("conv1", "conv2", "pool", "flat", "logits")))


def test_unknown_operator_wrong():
    model = batch_norm_cnn()
    model.graph.node[0].op_type = "Convolve"
    with pytest.raises(ModelError, match=r"^cnn cannot be prepared: .*Convolve"):
        load_float(model)


def test_input_that_is_not_float_wrong():
    model = batch_norm_cnn()
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.UINT8
    with pytest.raises(ModelError, match=r"^Input 'image' of cnn must be of float32 values, not "
                                         r"uint8$"):
        load_float(model)


def test_dynamic_dimensions_are_set():
    model = batch_norm_cnn(size="S", batch="N")
    with pytest.raises(InputError, match=r"^Input 'image' has dynamic dimensions \(N,3,S,S\): give "
                                         r"sizes with --input-shape image=1,3,N,N$"):
        load_float(model)
    source = load_float(model, {"image": (1, 3, 16, 16)})
    assert source.shapes == {"image": (1, 3, 16, 16)}
    assert quantize(source, {"image": images(4)}).accelerated == (5, 5)


def test_fixed_batch_becomes_one_frame():
    source = load_float(batch_norm_cnn(batch=4))
    assert source.batch == 4 and source.shapes == {"image": (1, 3, 16, 16)}
    together = GoldenSession(batch_norm_cnn(batch=4)).run({"image": images(4)})["logits"]
    alone = GoldenSession(source.model).run({"image": images(4)[3:]})["logits"]
    np.testing.assert_allclose(alone, together[3:], rtol=1e-4, atol=1e-4)
    assert quantize(source, {"image": images(4)}).accelerated == (5, 5)
    assert load_float(batch_norm_cnn()).batch == 1


@pytest.mark.parametrize("mixed", ["sizes", "values"])
def test_batch_that_frames_cannot_be_taken_out_of_wrong(mixed):
    model = batch_norm_cnn(batch=4)
    flat = model.graph.node[-2]
    if mixed == "sizes":
        flat.CopyFrom(onnx.helper.make_node("Reshape", ["pool", "shape"], ["flat"], name="flat"))
        model.graph.initializer.append(numpy_helper.from_array(np.array([4, -1]), "shape"))
    else:
        model.graph.node[-1].input[0] = "mixed"
        model.graph.node.insert(len(model.graph.node) - 1, onnx.helper.make_node(
            "CumSum", ["flat", "axis"], ["mixed"]))
        model.graph.initializer.append(numpy_helper.from_array(np.array(0), "axis"))
    with pytest.raises(ModelError, match=r"^Input 'image' of cnn has a batch of 4, on which other "
                                         r"sizes of the model depend: export it with a batch of "
                                         r"1$"):
        load_float(model)


@pytest.mark.parametrize("name, value, message", [
    ("w1", np.nan, "Conv 'conv1' of cnn must have finite weights: 1 of 432 values of 'w1' are not, "
                   "such as nan"),
    ("b3", -np.inf, "Gemm 'logits' of cnn must have finite weights: 1 of 10 values of 'b3' are "
                    "not, such as -inf"),
    ("bn2_var", -1, "Conv 'conv2' of cnn must have finite weights: 144 of 4608 values of "
                    "'ConvBnFusion_W_w2' are not, such as nan")])
def test_weights_that_are_no_numbers_wrong(name, value, message):
    with pytest.raises(ModelError, match=f"^{re.escape(message)}$"):
        load_float(spoilt(batch_norm_cnn(), name, value))


def test_bound_may_be_infinite():
    model = batch_norm_cnn()
    model.graph.node.append(onnx.helper.make_node("Clip", ["logits", "low", "high"], ["bounded"]))
    model.graph.output[0].name = "bounded"
    for name, value in (("low", 0), ("high", np.inf)):
        model.graph.initializer.append(numpy_helper.from_array(np.float32(value), name))
    load_float(model)


@pytest.mark.parametrize("method", ["minmax", "percentile"])
def test_sums_that_overflow_float_wrong(method):
    model = spoilt(spoilt(batch_norm_cnn(), "w1", 1e30), "w2", 1e30)
    with pytest.raises(ModelError, match=r"^Conv 'conv2' of cnn is not finite on the data of the "
                                         r"calibration$"):
        quantize(model, {"image": images(2)}, settings=Quantization(method=method))


@pytest.mark.parametrize("shape", [(1, 4, 16, 16), (1, 3, 16), (1, 3, 0, 16)])
def test_shape_that_does_not_fit_wrong(shape):
    with pytest.raises(InputError, match="^Shape of input 'image' must fit N,3,S,S, not "
                                         + ",".join(map(str, shape)) + "$"):
        load_float(batch_norm_cnn(size="S", batch="N"), {"image": shape})


def test_shape_of_no_input_wrong():
    with pytest.raises(InputError, match=r"^Input 'x' of a shape must be one of the model's: "
                                         r"image$"):
        load_float(batch_norm_cnn(), {"x": (1, 3, 16, 16)})


def test_loss_is_that_of_onnxruntime(tmp_path):
    frames = [{"image": image[None]} for image in images(4)]
    source = load_float(batch_norm_cnn())
    result = quantize_frames(source.model, frames)
    found = {layer.name: layer.snr for layer in layer_losses(source.model, result, frames)}
    paths = {}
    for name, model in (("float", source.model), ("int8", result)):
        onnx.save(model, tmp_path / f"{name}.onnx")
        qdq_loss_debug.modify_model_output_intermediate_tensors(
            tmp_path / f"{name}.onnx", tmp_path / f"{name}_all.onnx")
        paths[name] = qdq_loss_debug.collect_activations(str(tmp_path / f"{name}_all.onnx"),
                                                         iter(frames))
    ratio = qdq_loss_debug.compute_signal_to_quantization_noice_ratio
    for layer, tensor in (("image", "image"), ("conv1", "relu1"), ("conv2", "relu2")):
        assert found[layer] == pytest.approx(ratio(
            paths["float"][tensor], paths["int8"][f"{tensor}_DequantizeLinear_Output"]), abs=0.01)


def test_loss_names_the_layer_that_is_to_blame():
    frames = [{"image": image[None]} for image in images(4)]
    source = load_float(batch_norm_cnn())
    result = quantize_frames(source.model, frames)
    name = next(node for node in result.graph.node if node.name == "conv2").input[1]
    scale = next(node for node in result.graph.node if node.output[0] == name).input[1]
    tensor = next(each for each in result.graph.initializer if each.name == scale)
    tensor.CopyFrom(numpy_helper.from_array(1.5 * numpy_helper.to_array(tensor), scale))
    losses = layer_losses(source.model, result, frames)
    assert max(losses, key=lambda layer: layer.loss).name == "conv2"


def test_quantizing_is_silent_and_leaves_the_logger(capfd):
    level = logging.getLogger().level
    quantize(batch_norm_cnn(), {"image": images(3)}, settings=Quantization(method="percentile"))
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger().level == level


def test_output_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "int8.onnx"
    with pytest.raises(InputError, match=r"^Labels must be 4, one for each frame, not 3$"):
        quantize(batch_norm_cnn(), {"image": images(4)}, output=path, labels=[1, 2, 3])
    with pytest.raises(InputError, match=r"^Label 4 must be 0 to 9, not 10$"):
        quantize(batch_norm_cnn(), {"image": images(4)}, output=path, labels=[1, 2, 3, 10])
    assert not list(tmp_path.iterdir())
    quantized = quantize(batch_norm_cnn(), {"image": images(4)}, output=path)
    assert onnx.load(path) == quantized.model and list(tmp_path.iterdir()) == [path]


def test_quantized_model_wrong():
    with pytest.raises(ModelError, match=r"^digits_int8.onnx is quantized already: weft run takes "
                                         r"it as it is$"):
        load_float(MODEL)


@pytest.mark.parametrize("name, message", [
    ("conv3", "^Excluded node 'conv3' must be one of the model's, such as .*conv"),
    ("bn1", "^Excluded node 'bn1' is part of another one after folding; the model has conv1, "),
])
def test_unknown_excluded_node_wrong(name, message):
    with pytest.raises(InputError, match=message):
        quantize(batch_norm_cnn(), {"image": images(2)}, settings=Quantization(exclude=(name,)))


def test_unknown_method_wrong():
    with pytest.raises(InputError, match=r"^Method must be one of minmax, entropy, percentile, "
                                         r"not 'best'$"):
        Quantization(method="best")


def test_no_frames_wrong():
    with pytest.raises(InputError, match=r"^Calibration must have at least 1 frame, not 0$"):
        quantize(batch_norm_cnn(), [])


def test_torch_that_is_not_installed_wrong(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ToolError, match=r"^PyTorch is not installed: run pip install '.*\[torch\]"):
        weft.from_torch(None, None, "random:1")
