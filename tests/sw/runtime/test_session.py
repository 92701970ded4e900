import re
from dataclasses import replace
from itertools import accumulate

import numpy as np
import pytest
from graph_builder import GraphBuilder

from weft import reference
from weft.compiler import Grain, SplitSearch, compile
from weft.digits import MODEL
from weft.errors import InputError, ModelError, WeftError
from weft.hw.isa.commands import Engine
from weft.hw.isa.presets import PRESETS
from weft.hw.isa.registers import COUNTER_BASE, Counter, Register
from weft.ir import HostPart, Partition, TensorInfo
from weft.reference.golden import GoldenSession, cpu_is_exact
from weft.reference.model import GraphModel
from weft.runtime.device import DeviceStopped, Event, EventKind
from weft.runtime.device.functional import FunctionalDevice
from weft.runtime.session import InferenceSession

TINY = PRESETS["tiny"]


def branchy(*, unsigned: bool = False):
    builder = GraphBuilder(np.random.default_rng(0), (5, 6, 7), unsigned=unsigned)
    trunk = builder.conv("x", 9, kernel=(3, 3), pads=(1, 1, 1, 1))
    left = builder.conv(builder.conv(trunk, 4), 6, kernel=(6, 7))
    return builder.graph(left, builder.conv(trunk, 3))


def open_functional(graph, **options) -> InferenceSession:
    return InferenceSession(graph, config=TINY, device="functional", **options)


def frames(count: int, *, unsigned: bool = False) -> np.ndarray:
    dtype = np.uint8 if unsigned else np.int8
    info = np.iinfo(dtype)
    return np.random.default_rng(1).integers(info.min, info.max + 1, (count, 5, 6, 7)).astype(dtype)


def expected(graph, frame: np.ndarray) -> dict[str, np.ndarray]:
    values = reference.run(graph, {"x": graph.enter(graph.inputs[0], frame)})
    return {name: value[None] for name, value in values.items()}


# Results --------------------------------------------------------------------------------------

@pytest.mark.parametrize("unsigned", [False, True])
def test_run_gives_all_frames_of_each_output(unsigned):
    graph = branchy(unsigned=unsigned)
    images = frames(3, unsigned=unsigned)
    with open_functional(graph) as session:
        outputs = session.run(None, {"x": images})
        assert [info.name for info in session.get_outputs()] == ["t2", "t3"]
        second, = session.run(["t3"], {"x": images[1:2]})
    for index in range(3):
        values = expected(graph, images[index:index + 1])
        for name, output in zip(("t2", "t3"), outputs, strict=True):
            value = values[name] ^ np.int8(-128) if unsigned else values[name]
            assert output.dtype == images.dtype
            assert np.array_equal(output[index:index + 1].view(np.int8), value)
    assert np.array_equal(second, outputs[1][1:2])


def test_values_that_the_stated_shape_does_not_fit_wrong():
    graph = branchy()
    with pytest.raises(ModelError, match=r"^Tensor 'x' must have the shape that the model states, "
                                         r"1x5x6x7, not 2x5x6x7$"):
        graph.enter(graph.inputs[0], frames(2))


def test_inputs_and_outputs_are_described_like_onnxruntime_does():
    with open_functional(branchy()) as session:
        info, = session.get_inputs()
        assert (info.name, info.shape, info.type) == ("x", [1, 5, 6, 7], "tensor(int8)")
        assert [info.shape for info in session.get_outputs()] == [[1, 6, 1, 1], [1, 3, 6, 7]]


def test_tensors_of_all_layers_can_be_had_at_any_time():
    graph, image = branchy(), frames(1)
    wanted = expected(graph, image)
    for keep in (False, True):
        with open_functional(graph, keep_tensors=keep) as session:
            assert session.run_frame({"x": image}).tensors == {}
            tensors = session.run_frame({"x": image}, tensors=True).tensors
            assert set(tensors) == {"t0", "t1", "t2", "t3"}
            for name, values in tensors.items():
                assert np.array_equal(values, wanted[name])
            assert np.array_equal(session.run(None, {"x": image})[0], wanted["t2"])


def test_tensor_of_another_order_comes_back_in_that_of_onnx():
    graph = branchy()
    order = np.random.default_rng(3).permutation(9 * 6 * 7)
    graph.tensors["t0"] = replace(graph.tensors["t0"], order=order)
    image = frames(1)
    with open_functional(graph, keep_tensors=True) as session:
        got = session.run_frame({"x": image}, tensors=True).tensors["t0"]
    assert np.array_equal(got.reshape(-1)[order], expected(graph, image)["t0"].reshape(-1))


def test_edges_may_change_the_order():
    graph = branchy()
    turned = np.arange(5 * 6 * 7).reshape(6, 7, 5).transpose(2, 0, 1).reshape(-1)
    back = np.arange(3 * 6 * 7).reshape(3, 6, 7).transpose(1, 2, 0).reshape(-1)
    graph = replace(graph, inputs=(replace(graph.inputs[0], gather=turned),),
                    outputs=(graph.outputs[0],
                             replace(graph.outputs[1], gather=back, shape=(1, 6, 7, 3))))
    image = frames(1)
    with open_functional(graph) as session:
        got = session.run(["t3"], {"x": image})[0]
    wanted = expected(graph, image)["t3"]
    assert np.array_equal(got, wanted.transpose(0, 2, 3, 1))


class Cast:
    """A host part, without any format's library: one tensor in another type."""

    def __init__(self, source, target, dtype):
        self.source, self.target, self.dtype = source, target, dtype

    def load(self):
        return self

    def run(self, inputs):
        assert list(inputs) == [self.source]
        return {self.target: inputs[self.source].astype(self.dtype)}

    def part(self):
        return HostPart(program=self, inputs=(self.source,), outputs=(self.target,))


def test_host_parts_run_before_and_after():
    graph = branchy()
    alone = GraphModel(graph)
    alone.inputs = (TensorInfo(name="real", shape=(1, 5, 6, 7), dtype=np.dtype(np.float32)),)
    alone.outputs = (TensorInfo(name="wide", shape=(1, 6, 1, 1), dtype=np.dtype(np.float32)),
                     alone.outputs[1])
    graph_between = Partition(name="parts", model=alone, segments=(
        Cast("real", "x", np.int8).part(), graph, Cast("t2", "wide", np.float32).part()))
    image = frames(2)
    with open_functional(graph_between) as session:
        wide, plain = session.run(None, {"real": image.astype(np.float32)})
    for index in range(2):
        values = expected(graph, image[index:index + 1])
        assert np.array_equal(wide[index:index + 1], values["t2"].astype(np.float32))
        assert np.array_equal(plain[index:index + 1], values["t3"])


def test_digits_equal_onnxruntime():
    if not cpu_is_exact():
        pytest.skip(cpu_is_exact().reason)
    image = np.random.default_rng(0).random((1, 1, 8, 8)).astype(np.float32)
    with InferenceSession(MODEL, config="tiny", device="functional") as session:
        name = session.get_inputs()[0].name
        image = np.resize(image, (1, *session.get_inputs()[0].shape[1:])).astype(np.float32)
        result = session.run_frame({name: image}, tensors=True)
    golden = GoldenSession(MODEL, tensors=result.tensors).run({name: image})
    for key, values in result.tensors.items():
        assert values.shape == golden[key].shape
        assert np.array_equal(values, golden[key])


# Figures --------------------------------------------------------------------------------------

class Clocked(FunctionalDevice):
    """Says that every command takes ten cycles, one after the other, and the end five more."""

    def events(self):
        count = self.read_register(Register.COMPLETED)
        engines = [info.engine for info in self.infos]
        return [Event(engines[index], kind, index, 10 * (index + (kind == EventKind.DONE)))
                for index in range(count) for kind in EventKind]

    def read_register(self, register):
        if register == COUNTER_BASE + 4 * Counter.CYCLES:
            return 10 * super().read_register(Register.COMPLETED) + 5
        return super().read_register(register)


def test_cycles_of_layers_add_up_to_those_of_the_frame():
    with InferenceSession(branchy(), config=TINY, device=Clocked) as session:
        session.device.infos = session.program.infos
        result = session.run_frame({"x": frames(1)})
        commands = session.program.infos
    assert result.cycles == 10 * len(commands) + 5
    assert sum(layer.cycles for layer in result.layers) == result.cycles
    # A layer ends with its last command, which may come before the end of the layer before it.
    ends = {info.layer: 10 * (index + 1) for index, info in enumerate(commands)
            if info.engine is Engine.MATRIX}
    ends = list(accumulate((ends[layer] for layer in sorted(ends)), max))
    assert [layer.cycles for layer in result.layers] == [
        ends[0], ends[1] - ends[0], ends[2] - ends[1], result.cycles - ends[2]]
    first = result.layers[0]
    assert (first.name, first.op, first.engine) == ("layer0", "Conv", "matrix")
    assert (first.shape, first.macs) == ((9, 6, 7), 17010)


def test_traffic_is_counted_in_bytes():
    with open_functional(branchy()) as session:
        result = session.run_frame({"x": frames(1)})
        assert result.cycles == 0
        assert {layer.cycles for layer in result.layers} == {0}
        assert set(result.counters) == {counter.name.lower() for counter in Counter}
        program = session.program
        read = sum(len(raw) for address, raw in program.image
                   if address != program.warm_address or not program.warm_commands)
        read += program.inputs[0].size
        assert result.dram_read_bytes == read
        assert result.dram_write_bytes == sum(slot.size for slot in session.program.outputs)


def test_constants_are_written_once():
    written = []

    class Watched(FunctionalDevice):
        def write_memory(self, address, data):
            written.append(address)
            super().write_memory(address, data)

    with InferenceSession(branchy(), config=TINY, device=Watched) as session:
        assert len(written) == len(session.program.image)
        session.run(None, {"x": frames(4)})
        assert written[len(session.program.image):] == [session.program.inputs[0].address] * 4


def test_session_goes_on_after_the_device_stopped():
    with open_functional(branchy()) as session:
        address = session.program.command_address
        raw = session.device.read_memory(address, 1)
        session.device.write_memory(address, b"\0")
        with pytest.raises(DeviceStopped, match=r"^Device stopped: OPCODE error in command 0"):
            session.run(None, {"x": frames(1)})
        session.device.write_memory(address, raw)
        session.run(None, {"x": frames(1)})


def test_watchdog_and_search_are_for_the_session_to_choose():
    found = []

    class Watched(FunctionalDevice):
        def write_register(self, register, value):
            if register == Register.WATCHDOG:
                found.append(value)
            super().write_register(register, value)

    search = SplitSearch(grains=(Grain(matrix=0, vector=0),), effort=0)
    with InferenceSession(branchy(), config=TINY, device=Watched, watchdog_cycles=12_345,
                          search=search) as session:
        session.run(None, {"x": frames(1)})
        assert session.program.count > compile(branchy(), TINY).count
    assert found == [12_345]


def test_device_options_are_passed_on():
    options = {}

    def factory(config, **given):
        options.update(given)
        return FunctionalDevice(config, memory_bytes=given["memory_bytes"])

    with InferenceSession(branchy(), config="tiny", device=factory, latency=7) as session:
        assert options == {"memory_bytes": session.program.memory_bytes, "latency": 7}
        assert session.config is TINY


# Errors ---------------------------------------------------------------------------------------

@pytest.mark.parametrize("feeds, message", [
    ({}, "Inputs must be x, not none"),
    ({"x": frames(1), "y": frames(1)}, "Inputs must be x, not x, y"),
    ({"x": frames(1).astype(np.float32)}, "Input 'x' must be int8, not float32"),
    ({"x": frames(1)[0]}, "Input 'x' must have shape [frames, 5, 6, 7], not [5, 6, 7]"),
    ({"x": frames(1)[:, :4]}, "Input 'x' must have shape [frames, 5, 6, 7], not [1, 4, 6, 7]"),
    ({"x": frames(0)}, "Inputs must hold at least one frame, not 0"),
    ({"x": [1]}, "Input 'x' must be an array, not list"),
])
def test_wrong_input_is_refused(feeds, message):
    with open_functional(branchy()) as session, \
            pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        session.run(None, feeds)


def test_inputs_of_different_lengths_are_refused():
    builder = GraphBuilder(np.random.default_rng(0), (2, 1, 1))
    other = builder.add_input("z", (2, 1, 1))
    graph = builder.graph(builder.conv("x", 2), builder.conv(other, 2))
    feeds = {"x": np.zeros((2, 2, 1, 1), np.int8), "z": np.zeros((3, 2, 1, 1), np.int8)}
    with open_functional(graph) as session, pytest.raises(
            InputError, match=r"^Inputs must hold the same number of frames, not 'x' 2, 'z' 3$"):
        session.run(None, feeds)


def test_several_frames_at_once_are_refused_by_run_frame():
    with open_functional(branchy()) as session, \
            pytest.raises(InputError, match=r"^Inputs must hold one frame, not 2$"):
        session.run_frame({"x": frames(2)})


def test_unknown_output_is_refused():
    with open_functional(branchy()) as session, \
            pytest.raises(InputError, match=r"^Output must be one of t2, t3, not t9$"):
        session.run(["t9"], {"x": frames(1)})


@pytest.mark.parametrize("options, message", [
    ({"device": "fpga"}, "Device must be 'verilator', 'functional', 'serial:PORT', "
                         "'board-sim:BOARD' or a callable, not 'fpga'"),
    ({"trace": "x.fst"}, "A waveform needs the verilator device, not functional"),
    ({"device": "serial:"}, "Device must be serial:NAME or serial:NAME?baud=N, not 'serial:'"),
    ({"device": "serial:/dev/x?baud=fast"}, "Device must be serial:NAME or serial:NAME?baud=N, "
                                            "not 'serial:/dev/x?baud=fast'"),
    ({"latency": 3}, "Device has no option 'latency'"),
    ({"config": "huge"}, "Config must be one of tiny, small, wide, base or a .toml file, "
                         "not 'huge'"),
])
def test_wrong_session_option_is_refused(options, message):
    with pytest.raises(WeftError, match=f"^{re.escape(message)}$"):
        InferenceSession(branchy(), **{"config": "tiny", "device": "functional", **options})
