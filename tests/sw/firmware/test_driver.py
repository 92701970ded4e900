"""The driver in C, compiled for this machine: what it makes of a program is what the Python driver
makes of it, on the functional device."""

import ctypes
import re
import shutil
import subprocess
from dataclasses import replace
from itertools import count
from math import prod

import numpy as np
import pytest
from graphs import OPERATORS, operator_graph, random_graph, random_image

from weft import compiler, reference
from weft.compiler import passes
from weft.errors import InputError
from weft.firmware import hardware_header, program_files, write_firmware
from weft.firmware.program import identifier
from weft.hw.isa.commands import COMMANDS, Opcode
from weft.hw.isa.presets import PRESETS
from weft.hw.isa.registers import (
    CONFIG_BASE,
    DEVICE_ID,
    VERSION,
    Error,
    Register,
    Status,
    config_words,
)
from weft.runtime.device import Driver
from weft.runtime.device.functional import FunctionalDevice

TINY = PRESETS["tiny"]
BASE = 3 * 4096     # where the program lies on the accelerator's bus

needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="cc is not installed")

# Calls of the driver with plain arguments, so that its structs stay in C.
GLUE = """
#include "network.h"
static struct weft_device device;
int glue_open(uint32_t *registers) { return weft_open(&device, registers, 0); }
int glue_load(void *memory, uint64_t bus) {
    return weft_load(&device, &weft_program_network, memory, bus);
}
void glue_write(uint32_t index, void *values) { weft_write_input(&device, index, values); }
void glue_read(uint32_t index, void *values) { weft_read_output(&device, index, values); }
int glue_start(void) { return weft_start(&device); }
int glue_wait(void) { return weft_wait(&device); }
void glue_quantize(uint32_t index, const float *reals, void *values) {
    weft_quantize(&weft_program_network.inputs[index], reals, values);
}
"""


class Glue:
    """A program and the driver as a library, with registers and memory that are arrays."""

    def __init__(self, folder, program):
        sources = [path for path in write_firmware(folder, program, "network")
                   if path.suffix == ".c"]
        (folder / "glue.c").write_text(GLUE)
        subprocess.run(["cc", "-std=c99", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror",
                        "-shared", "-fPIC", "-o", "network.so", *sources, "glue.c"],
                       cwd=folder, check=True)
        self.library = ctypes.CDLL(str(folder / "network.so"))
        self.library.weft_message.restype = ctypes.c_char_p
        self.library.glue_load.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
        self.registers = np.zeros(1024, np.uint32)
        self.registers[Register.ID // 4] = DEVICE_ID
        self.registers[Register.VERSION // 4] = VERSION
        self.registers[Register.STATUS // 4] = Status.QUIET
        words = config_words(program.config).values()
        self.registers[CONFIG_BASE // 4:CONFIG_BASE // 4 + len(words)] = list(words)
        # Neither inputs nor outputs may rest on what was there before.
        self.memory = np.full(program.memory_bytes, 0xa5, np.uint8)

    def call(self, name, *arguments):
        """Arrays are given by their address."""
        return getattr(self.library, f"glue_{name}")(*(
            each.ctypes.data_as(ctypes.c_void_p) if isinstance(each, np.ndarray) else each
            for each in arguments))

    def load(self, base=BASE):
        return self.call("open", self.registers) or self.call("load", self.memory, base)


def run(program, glue, frame):
    """Outputs of a frame by the model's names: C packs and unpacks, the functional device runs."""
    assert glue.load() == 0
    graph = program.graph
    slots = [slot.tensor for slot in program.inputs]
    for edge in graph.inputs:
        if edge.tensor in slots:
            glue.call("write", slots.index(edge.tensor), frame[edge.name].copy())
    device = FunctionalDevice(program.config, memory_bytes=BASE + program.memory_bytes)
    device.write_memory(BASE, glue.memory.tobytes())
    Driver(device).run(BASE + program.command_address, program.count)
    glue.memory[:] = np.frombuffer(device.read_memory(BASE, program.memory_bytes), np.uint8)
    outputs = {}
    for number, edge in enumerate(graph.outputs):
        values = np.empty(edge.shape, np.uint8)
        glue.call("read", number, values)
        unsigned = graph.tensors[edge.tensor].unsigned
        outputs[edge.name] = values if unsigned else values.view(np.int8)
    return outputs


def check(folder, graph, config, rng):
    """A random frame of ``graph`` gives what the reference gives."""
    program = compiler.compile(graph, config)
    image = random_image(rng, graph)
    frame = {}
    for edge in graph.inputs:
        tensor, values = graph.tensors[edge.tensor], image[edge.tensor]
        flat = np.empty(values.size, np.int8)
        if edge.gather is None:
            flat[:] = values.reshape(-1)
        else:
            flat[edge.gather] = values.reshape(-1)
        frame[edge.name] = flat.view(np.uint8) ^ np.uint8(128) if tensor.unsigned else flat
    found = run(program, Glue(folder, program), frame)
    expected = reference.run(graph, image)
    for edge in graph.outputs:
        assert np.array_equal(found[edge.name], graph.leave(edge, expected[edge.tensor]))
    return program


@needs_compiler
@pytest.mark.parametrize("seed", range(6))
def test_random_networks_give_what_the_reference_gives(tmp_path, seed):
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, layers=2, max_size=14, unsigned=bool(seed % 2))
    check(tmp_path, graph, TINY, rng)


@needs_compiler
@pytest.mark.parametrize("operator", ["sum", "concat", "gate", "constants"])
def test_several_inputs_and_joined_channels(tmp_path, operator):
    assert operator in OPERATORS
    rng = np.random.default_rng(7)
    check(tmp_path, operator_graph(rng, operator), TINY, rng)


@needs_compiler
def test_first_layer_is_packed_on_the_way_in(tmp_path):
    rng = np.random.default_rng(2)
    for seed in range(20):
        graph = random_graph(np.random.default_rng(seed), layers=2, max_size=14, max_channels=3)
        if compiler.compile(graph, TINY).inputs[0].packing is not None:
            break
    assert check(tmp_path, graph, TINY, rng).inputs[0].packing is not None


@needs_compiler
def test_channels_last_outside(tmp_path):
    rng = np.random.default_rng(3)
    graph = random_graph(rng, layers=2, max_size=9)

    def last(edge, inverse):
        channels, height, width = graph.tensors[edge.tensor].shape
        turned = np.arange(channels * height * width)
        turned = turned.reshape(channels, height, width).transpose(1, 2, 0) if inverse else \
            turned.reshape(height, width, channels).transpose(2, 0, 1)
        return replace(edge, gather=turned.reshape(-1), shape=(1, height, width, channels))

    graph = replace(graph, inputs=tuple(last(edge, False) for edge in graph.inputs),
                    outputs=tuple(last(edge, True) for edge in graph.outputs))
    check(tmp_path, graph, TINY, rng)


@needs_compiler
def test_transposed_planes(tmp_path, monkeypatch):
    played = count()    # what is played first is the best
    monkeypatch.setattr(passes, "wide", lambda _graph: True)
    monkeypatch.setattr(passes, "_play", lambda _compilation, _plan: (next(played), 1))
    config = TINY.replace(activation_bytes=2048)
    found = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        (folder := tmp_path / str(seed)).mkdir()
        program = check(folder, random_graph(rng, layers=2, max_size=16), config, rng)
        found += all(slot.transposed for slot in (*program.inputs, *program.outputs))
    assert found


@needs_compiler
def test_quantizes_as_onnx_does(tmp_path):
    rng = np.random.default_rng(4)
    for unsigned in (False, True):
        graph = random_graph(rng, max_size=14, unsigned=unsigned)
        program = compiler.compile(graph, TINY)
        folder = tmp_path / str(unsigned)
        glue = Glue(folder, program)
        tensor = graph.tensors[graph.inputs[0].tensor]
        scale, size = np.float32(tensor.scale), prod(tensor.shape)
        zero = tensor.zero_point + 128 * unsigned
        low = -128 + 128 * unsigned
        # Halves, what saturates, and what lies between.
        reals = (rng.integers(-600, 600, size) / 2).astype(np.float32) * scale
        reals[::3] = rng.normal(0, 100 * scale, len(reals[::3]))
        reals[::7] = rng.choice([np.inf, -np.inf, 1e30, -1e30, -0.0], len(reals[::7]))
        values = np.empty(size, np.uint8)
        glue.call("quantize", 0, reals, values)
        expected = np.clip(np.rint(reals / scale) + zero, low, low + 255).astype(np.int64)
        assert np.array_equal(values.astype(np.int64) if unsigned
                              else values.view(np.int8).astype(np.int64), expected)


@pytest.fixture(scope="module")
def program():
    graph = random_graph(np.random.default_rng(1), max_size=8, max_channels=9)
    return compiler.compile(graph, TINY)


@needs_compiler
def test_start_and_end_of_a_run(tmp_path, program):
    glue = Glue(tmp_path, program)
    registers = glue.registers
    assert glue.load() == 0
    assert glue.call("start") == 0
    assert registers[Register.COMMAND_ADDR // 4] == BASE + program.command_address
    assert registers[Register.COMMAND_ADDRH // 4] == 0
    assert registers[Register.COMMAND_COUNT // 4] == program.count
    assert registers[Register.CYCLE_LIMIT // 4] == min(program.count << 24, 2**32 - 1)
    assert registers[Register.CONTROL // 4] == 1
    registers[Register.STATUS // 4] = Status.DONE | Status.QUIET
    assert glue.call("wait") == 0
    assert registers[Register.IRQ_CLEAR // 4] == 1
    # The next run leaves out the loads of constants.
    assert program.warm_commands
    registers[Register.STATUS // 4] = Status.QUIET
    assert glue.call("start") == 0
    assert registers[Register.COMMAND_ADDR // 4] == BASE + program.warm_address
    registers[Register.STATUS // 4] = Status.ERROR
    registers[Register.ERROR // 4] = Error.WATCHDOG
    assert glue.call("wait") == Error.WATCHDOG
    assert glue.library.weft_message(int(Error.WATCHDOG)) == \
        b"WATCHDOG: no progress: stalled memory or deadlocked semaphores"


@needs_compiler
def test_device_that_is_not_what_was_expected_wrong(tmp_path, program):
    glue = Glue(tmp_path, program)

    def message(result):
        return glue.library.weft_message(result).decode()

    assert message(glue.load(base=64)) == \
        "the memory of a program must be aligned to WEFT_ALIGNMENT"
    assert message(glue.call("start")) == "no program is loaded"
    glue.registers[CONFIG_BASE // 4] += 1
    assert message(glue.load()) == \
        "the accelerator has another configuration than the program"
    glue.registers[Register.STATUS // 4] = Status.BUSY
    assert message(glue.load()) == "the accelerator is not idle: reset it"
    glue.registers[Register.VERSION // 4] += 1
    assert message(glue.load()) == "the accelerator is of another version than this driver"
    glue.registers[Register.ID // 4] = 0
    assert message(glue.load()) == "there is no Weft accelerator at this address"


def test_header_has_every_register_and_every_field():
    lines = dict(re.findall(r"^#define (WEFT_\w+) +(\w+)", hardware_header(), re.MULTILINE))
    for register in Register:
        assert int(lines[f"WEFT_{register.name}"], 16) == register
    for opcode in Opcode:
        assert int(lines[f"WEFT_OPCODE_{opcode.name}"], 16) == opcode.value
        names = {name for name in COMMANDS[opcode].__annotations__ if not name.startswith("_")}
        for name in names - {"header"}:
            assert f"WEFT_{opcode.name}_{name.upper()}_BIT" in lines
    assert lines["WEFT_LOAD_ADDRESS_BIT"] == "64" and lines["WEFT_LOAD_ADDRESS_WIDTH"] == "64"


def test_edge_that_only_an_index_of_all_values_describes_wrong(program):
    graph = program.graph
    edge = graph.inputs[0]
    order = np.random.default_rng(0).permutation(prod(edge.shape))
    shuffled = replace(program, graph=replace(graph, inputs=(replace(edge, gather=order),)))
    with pytest.raises(InputError, match=r"^Tensor 'x' must keep its channels, rows and columns on "
                                         r"the way to the accelerator, not be reshaped into "
                                         r"others: a program in C cannot describe that$"):
        program_files(shuffled, "network")


def test_tensor_that_is_not_of_bytes_wrong(program):
    graph = program.graph
    name = graph.outputs[0].tensor
    wide = replace(graph, tensors={**graph.tensors, name: replace(graph.tensors[name], parts=2)})
    with pytest.raises(InputError, match=rf"^Tensor '{name}' must be int8 or uint8 in a program in "
                                         r"C, not int32$"):
        program_files(replace(program, graph=wide), "network")


@pytest.mark.parametrize("name, expected", [
    ("digits_int8", "digits_int8"), ("a b-c.d", "a_b_c_d"), ("größe", "gr__e")])
def test_names_become_identifiers(name, expected):
    assert identifier(name) == expected
