"""Linear enlargements of float models get a scale of their own, and run on the accelerator."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from weft.quantize import quantize
from weft.quantize.interpolation import part_scales
from weft.quantize.source import load_float
from weft.quantize.static import quantize_frames
from weft.runtime.runner import run_frames
from weft.runtime.session import InferenceSession


def pyramid(mode="half_pixel", factor=2, sizes=False, behind=False):
    """A convolution, enlarged and joined with another one of the large plane, and one behind; with
    ``behind``, one with a bias right behind the enlargement, too."""
    rng = np.random.default_rng(6)

    def constant(name, values):
        constants.append(numpy_helper.from_array(values, name))
        return name

    def conv(x, name, channels, filters, **attributes):
        weights = constant(f"{name}_w", (rng.standard_normal((filters, channels, 3, 3)) * np.sqrt(
            2 / 9 / channels)).astype(np.float32))
        return helper.make_node("Conv", [x, weights], [name], name=name, pads=[1] * 4,
                                **attributes)

    constants = []
    shape = [1, 6, 5 * factor, 6 * factor]
    given = ["", "", constant("sizes", np.array(shape, np.int64))] if sizes else \
        ["", constant("scales", np.array([1, 1, factor, factor], np.float32))]
    nodes = [
        conv("image", "small", 3, 6, strides=[factor, factor]),
        helper.make_node("Resize", ["small", *given], ["large"], name="large", mode="linear",
                         coordinate_transformation_mode=mode),
        conv("image", "skip", 3, 6),
        helper.make_node("Add", ["middle" if behind else "large", "skip"], ["sum"], name="sum"),
        conv("sum", "last", 6, 4)]
    if behind:
        middle = conv("large", "middle", 6, 6)
        middle.input.append(constant("middle_b", rng.standard_normal(6).astype(np.float32)))
        nodes.insert(2, middle)
    shapes = {"image": [1, 3, *shape[2:]], "last": [1, 4, *shape[2:]]}
    first, last = (helper.make_tensor_value_info(name, TensorProto.FLOAT, each)
                   for name, each in shapes.items())
    graph = helper.make_graph(nodes, "pyramid", [first], [last], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def frames(factor=2):
    return np.random.default_rng(1).standard_normal((6, 3, 5 * factor, 6 * factor)).astype(
        np.float32)


def scales_of(model, name):
    """Scales of the QuantizeLinear behind a tensor and of the DequantizeLinear behind that."""
    constants = {tensor.name: float(numpy_helper.to_array(tensor))
                 for tensor in model.graph.initializer if tensor.name.endswith(("scale", "behind"))
                 and not tensor.dims}
    quantizer, = (node for node in model.graph.node if node.input[0] == name)
    return {constants[node.input[1]] for node in model.graph.node
            if node is quantizer or node.input[0] == quantizer.output[0]}


@pytest.mark.parametrize("mode", ["half_pixel", "pytorch_half_pixel", "asymmetric"])
@pytest.mark.parametrize("factor, sizes, behind", [(2, False, False), (4, True, False),
                                                   (2, False, True)])
def test_all_of_it_is_accelerated_and_exact(mode, factor, sizes, behind):
    model = pyramid(mode, factor, sizes, behind)
    quantized = quantize(model, {"image": frames(factor)})
    assert quantized.accelerated == (5 + behind,) * 2 and len(quantized.plan.graphs) == 1
    assert all(layer.snr > 25 for layer in quantized.layers)
    with InferenceSession(quantized.model, config="tiny", device="functional") as session:
        layers = InferenceSession(session.plan, config="tiny", device="functional",
                                  keep_tensors=True)
        run = run_frames(session, {"image": frames(factor)}, model="", device="functional",
                         verify=True, layers=layers)
    assert run.compared > 0 and run.differing == 0


def test_scale_behind_is_larger_than_before():
    source = load_float(pyramid())
    plain = quantize_frames(source.model, [{"image": each[None]} for each in frames()])
    before, = scales_of(plain, "small")
    assert scales_of(plain, "large") == {before}
    changed = onnx.ModelProto()
    changed.CopyFrom(plain)
    assert part_scales(changed) == 1
    assert scales_of(changed, "small") == {before}
    assert scales_of(changed, "large") == {float(np.float32(before * 257 / 256))}
    assert part_scales(changed) == 0


def test_what_is_only_moved_keeps_the_scale():
    model = pyramid()
    add = next(node for node in model.graph.node if node.op_type == "Add")
    add.input[0] = "widened"
    model.graph.node.insert(list(model.graph.node).index(add), helper.make_node(
        "MaxPool", ["large"], ["widened"], name="widened", kernel_shape=[3, 3], pads=[1] * 4))
    quantized = quantize(model, {"image": frames()})
    large, widened, small = (scales_of(quantized.model, name)
                             for name in ("large", "widened", "small"))
    assert large == widened != small
    with InferenceSession(quantized.model, config="tiny", device="functional") as session:
        run = run_frames(session, {"image": frames()}, model="", device="functional", verify=True)
    assert run.compared > 0 and run.differing == 0


@pytest.mark.parametrize("mode, factor", [("align_corners", 2), ("half_pixel", 3)])
def test_what_the_host_does_keeps_its_scale(mode, factor):
    source = load_float(pyramid(mode, factor))
    model = quantize_frames(source.model, [{"image": each[None]} for each in frames(factor)])
    assert part_scales(model) == 0
