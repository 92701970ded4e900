"""Networks along time in steps: the same bytes as all at once."""

import numpy as np
import onnx
import pytest
from models import QdqBuilder
from onnx import TensorProto
from sweeps import sweep

import weft
from weft import cli
from weft.errors import InputError, ModelError
from weft.hw.isa.presets import load_config
from weft.reference.golden import cpu_is_exact
from weft.runtime.runner import run_frames
from weft.runtime.session import InferenceSession

FORMS = {"line": lambda count: (count,), "row": lambda count: (1, count),
         "column": lambda count: (count, 1)}
"""The axes of a tensor behind its channels, by the name of its form."""


class Network:
    """A random network along time.

    Every tensor is [1, C, T] in one of :data:`FORMS`, and known by its channels and the first
    sample of the input that it belongs to.
    """

    def __init__(self, seed, form, *, causal=True, length=24, channels=5):
        self.rng = np.random.default_rng(seed)
        self.builder = QdqBuilder(self.rng, unsigned=bool(seed % 2), per_channel=bool(seed % 3))
        self._plane, self._causal = FORMS[form], causal
        self.axis = {"line": 2, "row": 3, "column": 2}[form]
        self.tensors = {self.builder.input("x", (1, channels, *self._plane(length))):
                        (channels, 0)}

    def conv(self, source, filters, taps, *, dilation=1, pads=None, stride=1, depthwise=False):
        channels, first = self.tensors[source]
        reach = (taps - 1) * dilation
        before, after = (reach * self._causal, 0) if pads is None else pads
        plane = self._plane
        made = self.builder.conv(
            source, 1 if depthwise else channels, channels if depthwise else filters, plane(taps),
            group=channels if depthwise else 1, dilations=plane(dilation), strides=plane(stride),
            pads=[*self._ends(before), *self._ends(after)])
        if self.rng.random() < 0.5:
            made = self.builder.node("Relu", [made])
        return self._add(made, channels if depthwise else filters, first + reach - before)

    def _ends(self, pad):
        return [pad if size > 1 else 0 for size in self._plane(2)]

    def _add(self, made, channels, first, like=None):
        """Quantized; as the tensor ``like`` is, if one is given."""
        scale, zero = (None, None) if like is None else (
            self.builder.initializers[f"{like.rpartition('_d')[0]}_{part}"]
            for part in ("scale", "zero"))
        name = self.builder.quantize(made, scale=scale,
                                     zero_point=None if zero is None else int(zero))
        self.tensors[name] = channels, first
        return name

    def pad(self, source, count, *, quantized, value=None):
        """Zeros in front, or another value."""
        channels, first = self.tensors[source]
        name = self.builder.constant(f"{source}_pads", np.array(
            [0, 0, *self._ends(count), 0, 0, *self._ends(0)]))
        values = [] if value is None else [self.builder.constant(f"{source}_value",
                                                                 np.float32(value))]
        made = self.builder.node("Pad", [source, name, *values])
        if quantized:
            return self._add(made, channels, first - count, source)
        self.tensors[made] = channels, first - count
        return made

    def unary(self, source):
        op = str(self.rng.choice(["Sigmoid", "Tanh", "LeakyRelu"]))
        return self._add(self.builder.node(op, [source]), *self.tensors[source])

    def crop(self, source, first):
        channels, before = self.tensors[source]
        bounds = [self.builder.constant(f"{source}_{first}_{part}", np.array([value]))
                  for part, value in (("from", first - before), ("to", 1 << 40),
                                      ("axis", self.axis))]
        return self._add(self.builder.node("Slice", [source, *bounds]), channels, first, source)

    def combine(self, a, b, op="Add"):
        """The sum or product of two tensors, the longer one cropped."""
        first = max(self.tensors[name][1] for name in (a, b))
        a, b = (name if self.tensors[name][1] == first else self.crop(name, first)
                for name in (a, b))
        return self._add(self.builder.node(op, [a, b]), self.tensors[a][0], first)

    def grow(self):
        """Some layers, each on the last tensor; sums and products with those before."""
        rng = self.rng
        for _ in range(int(rng.integers(2, 6))):
            last = list(self.tensors)[-1]
            kind = rng.random()
            others = [name for name, (channels, _) in self.tensors.items()
                      if channels == self.tensors[last][0]]
            if kind < 0.15:
                self.unary(last)
            elif kind < 0.4 and len(others) > 1:
                self.combine(others[int(rng.integers(len(others)))], last,
                             str(rng.choice(["Add", "Mul"])))
            else:
                self.conv(last, int(rng.choice([self.tensors[last][0], rng.integers(1, 12)])),
                          int(rng.integers(1, 5)), dilation=int(rng.integers(1, 4)),
                          depthwise=bool(rng.random() < 0.25))
        self.conv(list(self.tensors)[-1], 3, 3)
        return self

    def build(self):
        self.builder.output(list(self.tensors)[-1])
        return onnx.shape_inference.infer_shapes(self.builder.build())


def check(network, *, hop, device="functional", config="tiny"):
    """All samples at once, by onnxruntime where it is exact, and in steps."""
    model = network.build()
    step = weft.streaming(model, hop=hop)
    delay, = step.delays.values()
    with InferenceSession(model, config=config, device="functional") as session:
        info, = session.get_inputs()
        signal = (network.rng.standard_normal(info.shape) * 3).astype(np.float32)
        golden, = session.plan.model.golden().run({"x": signal}).values()
        expected, = session.run(None, {"x": signal})
        if cpu_is_exact():
            np.testing.assert_array_equal(expected, golden)
    with InferenceSession(step.model, config=config, device=device) as session:
        assert len(session.plan.graphs) == 1 and session.states == step.states
        pieces = np.split(signal, signal.shape[network.axis] // hop, network.axis)
        output = session.get_outputs()[0].name
        found = np.concatenate([session.run([output], {"x": piece})[0] for piece in pieces],
                               network.axis)
        session.reset_state()
        run = run_frames(session, {"x": np.concatenate(pieces)}, model="", device=device,
                         verify=True)
        assert run.differing == 0
        np.testing.assert_array_equal(np.concatenate(run.outputs[0], network.axis - 1),
                                      found[0])
    late = np.take(found, range(delay, found.shape[network.axis]), network.axis)
    assert late.shape == expected.shape and late.size
    np.testing.assert_array_equal(late, expected)


@pytest.mark.parametrize("seed", sweep(range(24), fast=lambda seed: seed < 12))
def test_steps_are_the_whole(seed):
    network = Network(seed, list(FORMS)[seed // 2 % 3], causal=bool(seed % 4 < 2), length=48)
    check(network.grow(), hop=[1, 1, 2, 4][seed % 4],
          config="tiny,drain_lookup=false" if seed % 5 == 0 else "tiny")


@pytest.mark.parametrize("seed", range(24, 28))
def test_steps_are_the_whole_on_the_rtl(seed):
    network = Network(seed, list(FORMS)[seed % 3], causal=bool(seed % 2), length=48)
    check(network.grow(), hop=1 + seed % 2 * 2, device="verilator")


def test_partial_padding_is_the_state_of_the_beginning():
    network = Network(3, "row")
    network.conv(next(iter(network.tensors)), 4, 4, pads=(2, 0))
    check(network, hop=1)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("quantized", [True, False])
def test_zeros_in_front_are_the_state_of_the_beginning(form, quantized):
    network = Network(11, form)
    x = next(iter(network.tensors))
    first = network.conv(network.pad(x, 4, quantized=quantized), 6, 3, dilation=2, pads=(0, 0))
    second = network.conv(network.pad(first, 3, quantized=quantized, value=0.0), 6, 4, pads=(0, 0))
    network.conv(network.pad(network.combine(first, second), 1, quantized=quantized), 3, 3,
                 pads=(0, 0))
    check(network, hop=2)


_ZEROS = ("Pad 'pad1' cannot run in steps: padding must be zeros in front, along time, of real "
          "values")


@pytest.mark.parametrize("count, value, reason", [
    (3, None, "Conv 'conv2' cannot run in steps: there are 3 samples of padding in front of a "
              "window that reaches back 2"),
    (2, 0.5, _ZEROS), (-1, None, _ZEROS)])
def test_padding_that_is_no_state_is_told(count, value, reason):
    network = Network(12, "column")
    x = next(iter(network.tensors))
    network.conv(network.pad(x, count, quantized=True, value=value), 4, 3, pads=(0, 0))
    assert refused(network) == reason


def test_padding_in_another_scale_is_told():
    network = Network(14, "row")
    source = network.conv(next(iter(network.tensors)), 4, 3)
    padded = network.pad(source, 2, quantized=False)
    network.conv(network._add(padded, 4, -2), 3, 3, pads=(0, 0))
    node, = (node for node in network.builder.nodes
             if node.op_type == "QuantizeLinear" and node.input[0] == padded)
    node.name = "again"
    assert refused(network) == ("QuantizeLinear 'again' cannot run in steps: behind padding or a "
                                "crop it must have the scale and zero point of what is padded or "
                                "cropped")


def test_padding_that_no_convolution_reads_is_told():
    network = Network(13, "line")
    padded = network.pad(network.conv(next(iter(network.tensors)), 4, 3), 2, quantized=True)
    assert refused(network) == f"Output '{padded}' has padding that no convolution reads"
    network.unary(padded)
    assert refused(network).endswith("it reads padding, which only a convolution may")


def test_a_crop_may_be_the_output_and_nodes_have_no_names():
    network = Network(15, "row", causal=False)
    made = network.conv(network.conv(next(iter(network.tensors)), 4, 3), 3, 2)
    for node in network.builder.nodes:
        node.name = ""
    network.crop(made, 5)
    network.tensors[network.builder.nodes[-3].output[0]] = 3, 5
    assert network.builder.nodes[-3].op_type == "Slice"
    check(network, hop=3)


def refused(network):
    with pytest.raises(ModelError) as caught:
        weft.streaming(network.build())
    return str(caught.value)


@pytest.mark.parametrize("options, reason", [
    ({"pads": (1, 1)}, "it reads 1 samples that come later; all padding must be in front"),
    ({"stride": 2}, "its stride along time must be 1, not 2"),
    ({"pads": (5, 0)}, "there are 5 samples of padding in front of a window that reaches back 2"),
])
@pytest.mark.parametrize("form", FORMS)
def test_convolutions_that_need_other_samples_are_told(form, options, reason):
    network = Network(1, form)
    network.conv(next(iter(network.tensors)), 4, 3, **options)
    assert refused(network) == f"Conv 'conv1' cannot run in steps: {reason}"


def test_lines_that_do_not_begin_together_are_told():
    network = Network(2, "line", causal=False)
    x = next(iter(network.tensors))
    made = network.conv(x, 5, 3)
    short = network.builder.node("Slice", [x, *(
        network.builder.constant(name, np.array([value]))
        for name, value in (("from", 0), ("to", 22), ("axis", 2)))])
    network.tensors[network.builder.quantize(short)] = 5, 0
    assert refused(network) == (f"Slice '{short}' cannot run in steps: a crop may leave out the "
                                f"first samples only")
    network = Network(2, "line", causal=False)
    x = next(iter(network.tensors))
    made = network.conv(x, 5, 3)
    late = network.conv(network.crop(x, 1), 5, 2, pads=(0, 0))
    network.tensors[late] = 5, 2
    padded = network.conv(made, 4, 3, pads=(2, 0))
    assert padded
    assert refused(network).endswith("it pads a line that begins at sample 2; pad all convolutions "
                                     "or none, and once")


@pytest.mark.parametrize("length, reason", [
    (22, "its inputs begin at samples 2 and 0 of the network's input; they must be the same"),
    (1, "its inputs have 22 and 1 samples; they must have as many")])
def test_sums_of_lines_that_are_not_alike_are_told(length, reason):
    network = Network(4, "row", causal=False)
    late = network.conv(next(iter(network.tensors)), 5, 3)
    other = network.builder.input("z", (1, 5, 1, length))
    made = network.builder.node("Add", [late, other])
    network.tensors[network.builder.quantize(made)] = 5, 2
    assert refused(network) == f"Add '{made}' cannot run in steps: {reason}"


def test_constants_that_change_with_time_are_told():
    network = Network(4, "column")
    made = network.conv(next(iter(network.tensors)), 5, 3)
    builder = network.builder
    known = builder.node("DequantizeLinear", [
        builder.constant("k", network.rng.integers(-9, 9, (5, 24, 1)).astype(np.int8)),
        builder.constant("k_scale", np.float32(0.1)), builder.constant("k_zero", np.int8(0))], "kd")
    made = builder.node("Add", [made, known])
    network.tensors[builder.quantize(made)] = 5, 0
    assert refused(network) == (f"Add '{made}' cannot run in steps: its constant 'kd' changes with "
                                f"time")


@pytest.mark.parametrize("op, options", [
    ("MaxPool", {"kernel_shape": [2]}), ("GlobalAveragePool", {}), ("Softmax", {"axis": 2})])
def test_other_operators_are_told(op, options):
    network = Network(5, "line")
    made = network.conv(next(iter(network.tensors)), 4, 3)
    name = network.builder.node(op, [made], **options)
    network.tensors[network.builder.quantize(name)] = 4, 0
    assert refused(network) == (
        f"{op} '{name}' cannot run in steps: only convolutions along time, functions of one value, "
        f"sums, differences, products, padding and crops are supported")


def test_models_without_time_are_told():
    network = Network(6, "line")
    network.conv(next(iter(network.tensors)), 4, 1)
    assert refused(network) == "network has no convolution along time"
    builder = QdqBuilder(np.random.default_rng(7))
    builder.output(builder.quantize(builder.conv(builder.input("x", (1, 3, 4, 5)), 3, 4, (3, 3))))
    with pytest.raises(ModelError, match=r"^Input 'x' must be a line along time, \[1, C, T\], "
                                         r"\[1, C, 1, T\] or \[1, C, T, 1\], not \[1, 3, 4, 5\]$"):
        weft.streaming(onnx.shape_inference.infer_shapes(builder.build()))
    with pytest.raises(InputError, match=r"^Hop must be at least 1 sample, not 0$"):
        weft.streaming(network.build(), hop=0)


def test_states_in_the_metadata_must_be_names():
    model = weft.streaming(Network(8, "row").grow().build()).model
    model.metadata_props[0].value = "[1]"
    with pytest.raises(ModelError, match=r"^Metadata 'weft_states' of network must be a JSON "
                                         r"object of names, not \[1\]$"):
        InferenceSession(model, config=load_config("tiny"), device="functional")


def test_the_command_line_streams(tmp_path, capsys):
    path, step = tmp_path / "whole.onnx", tmp_path / "step.onnx"
    network = Network(9, "line", causal=False)
    network.conv(network.conv(next(iter(network.tensors)), 4, 3), 4, 2, dilation=2)
    onnx.save(network.build(), path)
    assert cli.main(["stream", str(path), "-o", str(step), "--hop", "2"]) == 0
    assert capsys.readouterr().out == (
        f"{step}: 2 samples a step, 2 states of 18 bytes\n"
        f"output {list(network.tensors)[-1]}: the first 4 samples come before those of "
        f"whole.onnx\n")
    assert cli.main(["run", str(step), "--random", "6", "--config", "tiny", "--device",
                     "functional", "--verify"]) == 0
    assert "0 of" in capsys.readouterr().out
    assert onnx.load(step).graph.input[1].type.tensor_type.elem_type == TensorProto.UINT8
