"""The accelerator's Verilog on buses that know nothing of it."""

import json
from pathlib import Path

import numpy as np
from graphs import random_graph, random_image

from weft import compiler, reference
from weft.hw.accelerator import Accelerator
from weft.hw.isa.presets import PRESETS
from weft.hw.isa.registers import DEVICE_ID, Register, Status
from weft.ir import layout
from weft.sim.cocotb_bench import run_cocotb


def test_network_on_independent_axi_models(tmp_path):
    config = PRESETS["tiny"]
    rng = np.random.default_rng(4)
    graph = random_graph(rng, 2, max_size=7, max_channels=9, max_kernel=3)
    images = random_image(rng, graph)
    program = compiler.compile(graph, config)
    memory = bytearray(-(-program.memory_bytes // 4096) * 4096)
    sections = [(address, bytes(content)) for address, content in program.image]
    sections += [(slot.address, layout.pack_tensor(config, images[slot.tensor]))
                 for slot in program.inputs]
    for address, content in sections:
        memory[address:address + len(content)] = content
    output, = program.outputs
    expected = layout.pack_tensor(config, reference.run(graph, images)[output.tensor])

    # Lanes beyond the last channel mean nothing: compare only where they are none.
    channels = graph.tensors[output.tensor].shape[0]
    whole = channels // config.rows * len(expected) // layout.channel_blocks(config, channels)
    assert whole > 0
    (tmp_path / "memory.bin").write_bytes(memory)
    (tmp_path / "expected.bin").write_bytes(expected[:whole])
    (tmp_path / "job.json").write_text(json.dumps({
        "id": DEVICE_ID, "address": program.command_address, "count": program.count,
        "output": output.address, "done": int(Status.DONE | Status.QUIET),
        "registers": {register.name: int(register) for register in Register}}))
    run_cocotb(Accelerator(config), name="weft_top",
               bench=Path(__file__).parent / "cocotb_accelerator.py",
               build_dir=tmp_path / "build", environment={"PROGRAM": str(tmp_path)})
