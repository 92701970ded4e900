"""Compiled programs on a device, by default the functional one, compared with the reference."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from graphs import random_image

from weft import reference
from weft.compiler import Program, SplitSearch, compile
from weft.hw.isa.commands import Engine
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.encoding import decode
from weft.ir import Graph
from weft.runtime.device import Driver
from weft.runtime.device.functional import FunctionalDevice

__all__ = ["run", "run_frames", "equal", "fields_of"]


def run(program: Program, image: dict[str, np.ndarray], *, seed: int = 0, warm: int = 0,
        make: Callable[..., Any] = FunctionalDevice) -> dict[str, np.ndarray]:
    """Values of all stored tensors after a frame on the device that ``make`` makes, with ``warm``
    other frames before it: the first of all runs the cold stream, the others the warm one."""
    device = make(program.config, memory_bytes=program.memory_bytes, seed=seed)
    for address, raw in program.image:
        device.write_memory(address, raw)
    driver = Driver(device)
    for frame in range(warm + 1):
        for slot in program.inputs:
            values = image[slot.tensor] if frame == warm else np.zeros_like(image[slot.tensor])
            device.write_memory(slot.address, program.pack(slot, values))
        if frame:
            driver.run(program.warm_address, len(program.warm_infos))
        else:
            driver.run(program.command_address, program.count)
    return {slot.tensor: program.unpack(slot, device.read_memory(slot.address, slot.size))
            for slot in (*program.outputs, *program.kept)}


def run_frames(program: Program, images: Sequence[dict[str, np.ndarray]], *, seed: int = 0,
               warm: bool = False) -> list[dict[str, np.ndarray]]:
    """Values of all stored tensors, frame after frame on one functional device, whose memories hold
    anything before; with ``warm``, further frames run the warm stream, if there is one."""
    device = FunctionalDevice(program.config, memory_bytes=program.memory_bytes, seed=seed)
    rng = np.random.default_rng(seed)
    for memory in device.core.units.values():
        memory[...] = rng.integers(-128, 128, memory.shape)
    for address, raw in program.image:
        device.write_memory(address, raw)
    driver = Driver(device)
    frames = []
    for number, image in enumerate(images):
        for slot in program.inputs:
            device.write_memory(slot.address, program.pack(slot, image[slot.tensor]))
        if warm and number and program.warm_commands:
            driver.run(program.warm_address, len(program.warm_infos))
        else:
            driver.run(program.command_address, program.count)
        frames.append({slot.tensor: program.unpack(slot, device.read_memory(
            slot.address, slot.size)) for slot in (*program.outputs, *program.kept)})
    return frames


def equal(graph: Graph, config: AcceleratorConfig, rng: np.random.Generator, *, seed: int = 0,
          keep_tensors: bool = False, warm: int = 0, search: SplitSearch | None = None,
          make: Callable[..., Any] = FunctionalDevice) -> Program:
    """Compiles a graph, and makes sure that a frame of it equals the reference."""
    program = compile(graph, config, keep_tensors=keep_tensors, search=search)
    image = random_image(rng, graph)
    expected = reference.run(graph, image)
    found = run(program, image, seed=seed, warm=warm, make=make)
    assert set(found) >= {edge.tensor for edge in graph.outputs}
    if keep_tensors:
        assert set(found) >= {layer.output for layer in graph.layers}
    for name, values in found.items():
        assert np.array_equal(values, expected[name]), name
    return program


def fields_of(program: Program, engine: Engine) -> list[dict[str, int]]:
    """Fields of all commands of an engine."""
    return [decode(program.command(index))[1] for index, info in enumerate(program.infos)
            if info.engine is engine]
