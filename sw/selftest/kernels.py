"""A small job for each engine, whose result is compared with the reference."""

import random
from dataclasses import dataclass

import numpy as np

from weft import compiler, reference
from weft.hw.isa.commands import COMMAND_BYTES, Engine, Memory, Opcode
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.encoding import encode
from weft.ir import Convolution, Depthwise, Edge, Graph, Layer, Pads, Tensor
from weft.runtime.device import Driver

from .memory import Flaw

__all__ = ["Kernel", "kernels", "run_copy", "run_kernel"]


_SIZE = 6    # of a plane
_WORDS = 16  # that LOAD and STORE copy


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A job for an engine.

    Parameters
    ----------
    engine : :class:`weft.hw.isa.commands.Engine`
    graph : :class:`weft.ir.Graph`
        Of one layer, which that engine computes.
    """

    engine: Engine
    graph: Graph


def kernels(config: AcceleratorConfig) -> list[Kernel]:
    """Jobs for those engines that an accelerator of ``config`` computes with."""
    rng = np.random.default_rng(2)
    channels, outputs = config.rows + 3, config.cols + 3  # more than one block of each

    def numbers(*shape: int) -> np.ndarray:
        return rng.integers(-128, 128, shape).astype(np.int8)

    def scales(count: int, terms: int) -> np.ndarray:
        # Results that spread over int8: the deviation of a sum is about 74 * 74 * sqrt(terms).
        spread = 40 / (74 * 74 * terms ** 0.5)
        return (spread * (0.5 + rng.random(count))).astype(np.float32)

    def bias(count: int) -> np.ndarray:
        return rng.integers(-20_000, 20_000, count).astype(np.int32)

    pads = Pads(1, 1, 1, 1)
    made = [Kernel(engine=Engine.MATRIX, graph=_graph(Convolution(
        name="matrix", op="Conv", input="x", output="y", pads=pads,
        weights=numbers(outputs, channels, 3, 3), bias=bias(outputs),
        multiplier=scales(outputs, 9 * channels)), channels, outputs))]
    if config.vector:
        made.append(Kernel(engine=Engine.VECTOR, graph=_graph(Depthwise(
            name="vector", op="Conv", input="x", output="y", pads=pads,
            weights=numbers(channels, 3, 3), bias=bias(channels),
            multiplier=scales(channels, 9)), channels, channels)))
    return made


def _graph(layer: Layer, inputs: int, outputs: int) -> Graph:
    tensors = {name: Tensor(name=name, shape=(channels, _SIZE, _SIZE), scale=0.05, zero_point=zero)
               for name, channels, zero in (("x", inputs, -3), ("y", outputs, 5))}

    def edge(name: str) -> Edge:
        return Edge(name=name, shape=(1, *tensors[name].shape), tensor=name)

    return Graph(name=layer.name, tensors=tensors, layers=(layer,),
                 inputs=(edge("x"),), outputs=(edge("y"),))


def run_kernel(driver: Driver, kernel: Kernel) -> str:
    """Runs a job, and compares what comes of it.

    Returns
    -------
    :class:`str`
        What was done.

    Raises
    ------
    Flaw
        If a value is wrong.
    DeviceError
        If the device stops.
    """
    device = driver.device
    program = compiler.compile(kernel.graph, device.config)
    _check_room(kernel.engine, program.memory_bytes, device.memory_bytes)
    shape = kernel.graph.tensors["x"].shape
    image = {"x": np.random.default_rng(3).integers(-128, 128, shape).astype(np.int8)}
    for address, raw in program.image:
        device.write_memory(address, raw)
    (source,), (result,) = program.inputs, program.outputs
    device.write_memory(source.address, program.pack(source, image["x"]))
    cycles = driver.run(program.command_address, program.count, commands=program.commands).cycles
    found = program.unpack(result, device.read_memory(result.address, result.size))
    expected = reference.run(kernel.graph, image)["y"]
    wrong = np.argwhere(found != expected)
    if len(wrong):
        place = tuple(wrong[0])
        raise Flaw(f"{kernel.engine.name} engine gives {len(wrong)} of {expected.size} values "
                   f"wrong: the first at channel {place[0]}, row {place[1]}, column {place[2]}, "
                   f"{expected[place]} expected and {found[place]} read")
    macs = kernel.graph.layers[0].macs(kernel.graph.tensors["y"])
    return f"{macs:,} multiply-accumulates, {expected.size} values exact, {cycles:,} cycles"


def run_copy(driver: Driver) -> tuple[str, str]:
    """LOAD and STORE move words through the activation memory: from its first words, and from its
    last.

    Returns
    -------
    tuple of :class:`str`
        What each engine did.

    Raises
    ------
    Flaw
        If a byte is wrong.
    DeviceError
        If the device stops.
    """
    device, config = driver.device, driver.device.config
    size = _WORDS * config.word_bytes
    source, target = COMMAND_BYTES * 8, COMMAND_BYTES * 8 + -(-size // 64) * 64
    _check_room(Engine.LOAD, target + size, device.memory_bytes)
    cycles = 0
    for first in (0, config.activation_depth - _WORDS):
        # Bytes of a word in external memory that are none of the word are not copied.
        data = b"".join(_word(random.Random(first + number), config) for number in range(_WORDS))
        place = {"lines": 1, "stride": size, "units": _WORDS, "local_address": first,
                 "local_stride": _WORDS}
        commands = b"".join((
            encode(Opcode.LOAD, post=1 << Engine.STORE.value, memory=Memory.ACTIVATION,
                   address=source, **place),
            encode(Opcode.STORE, wait=1 << Engine.LOAD.value, address=target, **place)))
        device.write_memory(source, data)
        device.write_memory(target, bytes(byte ^ 0xff for byte in data))
        device.write_memory(0, commands)
        result = driver.run(0, 2, commands=commands)
        found = device.read_memory(target, size)
        wrong = [number for number in range(size) if found[number] != data[number]]
        if wrong:
            at = wrong[0]
            raise Flaw(f"LOAD and STORE engines copy {len(wrong)} of {size} bytes wrong: the "
                       f"first is byte {at % config.word_bytes} of word "
                       f"{first + at // config.word_bytes} of the activation memory, "
                       f"{data[at]:#04x} loaded and {found[at]:#04x} stored")
        cycles += result.cycles
    return (f"{2 * size} bytes into the activation memory",
            f"{2 * size} bytes out of it, exact, {cycles:,} cycles")


def _word(rng: random.Random, config: AcceleratorConfig) -> bytes:
    return rng.randbytes(config.word_data_bytes).ljust(config.word_bytes, b"\0")


def _check_room(engine: Engine, wanted: int, there: int) -> None:
    if wanted > there:
        raise Flaw(f"{engine.name} engine cannot be tested: it takes {wanted} bytes of memory, "
                   f"and the board has {there}")
