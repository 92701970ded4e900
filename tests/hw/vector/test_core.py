"""The vector engine inside the core: loaded, run and stored by a command stream."""

import numpy as np
from amaranth.lib import data
from stream_bench import make_simulator

from weft.hw.core import Core
from weft.hw.isa.commands import Engine, Memory, Opcode, VectorCommand, VectorOp
from weft.hw.isa.encoding import encode
from weft.hw.isa.presets import PRESETS
from weft.ir import layout
from weft.reference import vector as vector_model

CONFIG = PRESETS["tiny"].replace(activation_bytes=4096, weight_bytes=1024, vector_entries=64,
                                 parameter_channels=64, vector_tables=1)
COMMANDS, INPUT, WEIGHTS, PARAMETERS, TABLE, OUTPUT = (0x1000 * n for n in range(6))
LOAD, VECTOR, STORE = (1 << engine.value for engine in (Engine.LOAD, Engine.VECTOR, Engine.STORE))


def load(memory, address, units, *, post=0):
    return encode(Opcode.LOAD, post=post, memory=memory, lines=1, address=address, stride=0,
                  units=units, local_address=0, local_stride=0)


def vector(op, *, wait=0, post=0, **fields):
    names = [name for name, _ in data.Layout.cast(VectorCommand) if name[0] != "_"]
    defaults = dict.fromkeys(names, 0)
    del defaults["header"]
    defaults |= {"kernel_outer": 1, "kernel_inner": 1, "stride_outer": 1, "stride_inner": 1,
                 "dilation_outer": 1, "dilation_inner": 1, "clamp_min": -128, "clamp_max": 127}
    return encode(Opcode.VECTOR, wait=wait, post=post, **(defaults | fields | {"op": op}))


def padded(units, unit_bytes):
    return layout.units_to_bytes(units, unit_bytes)


def run(memory, count):
    """Runs a command stream on a memory, a bytearray."""
    dut = Core(CONFIG)
    axi = dut.m_axi
    beat = CONFIG.axi_bytes
    seen = {"vector_busy": 0, "vector_activation": 0, "vector_drain": 0}

    async def reads(ctx):
        waiting = []
        ctx.set(axi.arready, 1)
        while True:
            if waiting:
                address, last, number = waiting[0]
                ctx.set(axi.rdata, int.from_bytes(memory[address:address + beat], "little"))
                ctx.set(axi.rlast, last)
                ctx.set(axi.rid, number)
            ctx.set(axi.rvalid, bool(waiting))
            _clk, _rst, valid, address, length, number, ready = await ctx.tick().sample(
                axi.arvalid, axi.araddr, axi.arlen, axi.arid, axi.rready)
            if waiting and ready:
                waiting.pop(0)
            if valid:
                waiting += [(address + beat * n, n == length, number) for n in range(length + 1)]

    async def writes(ctx):
        addresses, owed = [], 0
        ctx.set(axi.awready, 1)
        while True:
            ctx.set(axi.wready, bool(addresses))
            ctx.set(axi.bvalid, owed > 0)
            _clk, _rst, valid, address, length, w_valid, w_data, strobe, last, ready = \
                await ctx.tick().sample(axi.awvalid, axi.awaddr, axi.awlen, axi.wvalid,
                                        axi.wdata, axi.wstrb, axi.wlast, axi.bready)
            owed -= owed > 0 and ready
            if addresses and w_valid:
                place = addresses.pop(0)
                for lane in range(beat):
                    if strobe >> lane & 1:
                        memory[place + lane] = w_data >> 8 * lane & 0xff
                owed += last
            if valid:
                addresses += [address + beat * n for n in range(length + 1)]

    async def stream(ctx):
        control = dut.control
        ctx.set(control.address, COMMANDS)
        ctx.set(control.count, count)
        ctx.set(control.start, 1)
        await ctx.tick()
        ctx.set(control.start, 0)
        completed = cycles = 0
        while completed < count:
            _clk, _rst, completed, count_up, *faults = await ctx.tick().sample(
                control.completed, control.count_up, *(fault.code for fault in control.faults))
            assert not any(faults)
            for name in seen:
                seen[name] += count_up[name]
            cycles += 1
            assert cycles < 5000, "the core hangs"

    sim = make_simulator(dut)
    for process in (reads, writes):
        sim.add_testbench(process, background=True)
    sim.add_testbench(stream)
    sim.run()
    return seen


def test_a_stream_loads_runs_and_stores_vector_commands():
    rng = np.random.default_rng(1)
    shape = channels, height, width = 6, 5, 7
    size, blocks = height * width, layout.channel_blocks(CONFIG, channels)
    x = rng.integers(-128, 128, shape, dtype=np.int8)
    kernel = rng.integers(-128, 128, (channels, 3, 3), dtype=np.int8)
    scale = rng.uniform(0.001, 0.003, channels).astype(np.float32)
    table = rng.integers(-128, 128, 256, dtype=np.int8)
    convolved = vector_model.depthwise(x, kernel, np.zeros(channels, np.int32), scale,
                                           in_zero=3, pads=(1, 1, 1, 1))

    words = blocks * CONFIG.rows
    values = np.zeros((words, 2), np.int32)
    values[:channels, 0] = -3 * kernel.sum(axis=(1, 2), dtype=np.int32)
    values[:channels, 1] = scale.view(np.int32)
    entries = values.view(np.int8).reshape(-1, CONFIG.parameter_entry_data_bytes)
    weights = vector_model.pack_kernel(CONFIG, kernel)
    planes = {"blocks": blocks, "in_block_step": size, "out_block_step": size}
    commands = [
        load(Memory.ACTIVATION, INPUT, blocks * size),
        load(Memory.VECTOR_WEIGHT, WEIGHTS, len(weights)),
        load(Memory.VECTOR_PARAMETER, PARAMETERS, len(entries)),
        load(Memory.TABLE, TABLE, 256, post=VECTOR),
        vector(VectorOp.CONV, wait=LOAD, post=VECTOR, in_base=(-width - 1) % (1 << 24), in_zero=3,
               in_outer=height, in_inner=width, in_outer_step=width, in_inner_step=1,
               pad_outer=1, pad_inner=1, kernel_outer=3, kernel_inner=3, kernel_outer_step=width,
               kernel_inner_step=1, out_outer=height, out_inner=width, out_base=100,
               out_outer_step=width, out_inner_step=1, slide=1, **planes),
        # In place.
        vector(VectorOp.LOOKUP, table=1, wait=VECTOR, post=STORE, in_base=100, in_outer=1,
               in_inner=size, in_inner_step=1, out_outer=1, out_inner=size, out_base=100,
               out_inner_step=1, **planes),
        encode(Opcode.STORE, wait=VECTOR, lines=1, address=OUTPUT, stride=0, units=blocks * size,
               local_address=100, local_stride=0),
    ]
    memory = bytearray(0x6000)
    for address, content in (
            (COMMANDS, b"".join(commands)),
            (INPUT, layout.pack_tensor(CONFIG, x)),
            (WEIGHTS, padded(weights, CONFIG.vector_entry_bytes)),
            (PARAMETERS, padded(entries, CONFIG.parameter_entry_bytes)),
            (TABLE, table.tobytes())):
        memory[address:address + len(content)] = content
    seen = run(memory, len(commands))

    raw = bytes(memory[OUTPUT:OUTPUT + layout.tensor_bytes(CONFIG, shape)])
    np.testing.assert_array_equal(layout.unpack_tensor(CONFIG, raw, shape),
                                  vector_model.lookup(convolved, table))
    # 3 words per position and 3 more at the start of a row; then 1.
    least = blocks * (3 * size + 3 * height) + blocks * size
    assert least <= seen["vector_busy"] < sum(seen.values()) < least + 100
