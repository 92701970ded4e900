import random

import pytest
from amaranth.hdl import Signal
from amaranth.lib import data
from stream_bench import make_simulator, stream_get, stream_put

from weft.hw.isa.commands import LoadCommand, Memory, Opcode, StoreCommand
from weft.hw.isa.encoding import encode
from weft.hw.isa.memories import memories
from weft.hw.isa.presets import PRESETS
from weft.hw.isa.registers import Error
from weft.hw.transfer.front import TransferFront

CONFIGS = {
    "tiny": PRESETS["tiny"],
    # Memory on chip that holds more than the one outside, and the other way round.
    "narrow": PRESETS["tiny"].replace(axi_addr_width=16, vector_taps=0),
    "shallow": PRESETS["tiny"].replace(activation_bytes=512, weight_bytes=64, axi_addr_width=48,
                                       parameter_channels=16, vector_taps=0, axi_data_width=64),
}


def geometry(config, memory):
    """Bytes of a unit outside, and depth."""
    return {
        Memory.ACTIVATION: (config.word_bytes, config.activation_depth),
        Memory.WEIGHT: (config.weight_row_bytes, config.weight_depth),
        Memory.PARAMETER: (config.parameter_entry_bytes, config.parameter_depth),
        Memory.VECTOR_WEIGHT: (config.vector_entry_bytes, config.vector_entries),
        Memory.VECTOR_PARAMETER: (config.parameter_entry_bytes, config.vector_parameter_depth),
        Memory.TABLE: (1, config.vector_table_bytes),
        Memory.LANE_TABLE: (config.word_bytes, config.vector_table_bytes),
        Memory.ROW_CONSTANT: (4, 256),
    }[memory]


def expected_code(config, fields):
    """What is wrong with a command, in numbers without limits."""
    lines, units, address = fields["lines"], fields["units"], fields["address"]
    if not lines or not units:
        return Error.ARGUMENT
    unit_bytes, depth = geometry(config, fields["memory"])
    beats = -(-units * unit_bytes // config.axi_bytes)
    end = address + (lines - 1) * fields["stride"] + beats * config.axi_bytes
    local_end = fields["local_address"] + (lines - 1) * fields["local_stride"] + units
    aligned = not (address % config.axi_bytes or fields["stride"] % config.axi_bytes)
    legal = aligned and end <= 1 << config.axi_addr_width and local_end <= depth
    return Error.NONE if legal else Error.ADDRESS


def around(rng, limit, bits):
    """A number near the limits of its field, or of what it stands for; often a small one."""
    value = rng.choice([rng.randrange(4), rng.randrange(limit), limit - rng.randrange(4),
                        limit + rng.randrange(4), 1 << rng.randrange(bits),
                        (1 << bits) - 1 - rng.randrange(4)])
    return min(max(value, 0), (1 << bits) - 1)


def random_fields(rng, config, memory):
    """A command that is legal, or wrong in one of all possible ways."""
    beat = config.axi_bytes
    unit_bytes, depth = geometry(config, memory)
    space = 1 << config.axi_addr_width
    lines = rng.choice([1, 1, 2, 3, rng.randint(1, 65535)])
    units = rng.randint(1, max(1, depth // lines))
    used = -(-units * unit_bytes // beat) * beat
    gap = max(0, depth - lines * units) // lines
    stride = rng.choice([0, used, max(0, space - used) // max(1, lines - 1) // beat * beat])
    stride = min(stride, (1 << 32) - beat)
    fields = {"memory": memory, "lines": lines, "units": units,
              "local_stride": min(units + gap, (1 << 24) - 1), "local_address": 0,
              "stride": stride, "address": max(0, space - used - (lines - 1) * stride)}
    limits = {"lines": (65535, 16), "units": (depth, 24), "local_stride": (depth, 24),
              "local_address": (depth, 24), "stride": (min(space, 1 << 32), 32),
              "address": (space, 64)}
    for name in rng.sample(list(limits), rng.choice([0, 0, 1, 1, 2])):
        value = around(rng, *limits[name])
        if name in ("stride", "address") and rng.random() < 0.8:
            value = value // beat * beat
        fields[name] = value
    if rng.random() < 0.1:  # the stride fits, and only a multiple of it does not
        fields |= {"lines": (1 << rng.randrange(1, 16)) + 1, "stride": 1 << 31, "address": 0}
    return fields


@pytest.mark.parametrize("command", [LoadCommand, StoreCommand])
@pytest.mark.parametrize("name", CONFIGS)
def test_every_field_is_checked_to_its_last_bit(name, command):
    config = CONFIGS[name]
    rng = random.Random(f"{name} {command.__name__}")
    load = command is LoadCommand
    dut = TransferFront(config=config, command=command)
    reset = Signal()
    command_layout = data.Layout.cast(command)
    codes = []

    async def testbench(ctx):
        for number in range(250):
            memory = rng.choice([*memories(config)]) if load else Memory.ACTIVATION
            fields = random_fields(rng, config, memory)
            if not load:
                del fields["memory"]
            raw = encode(Opcode.LOAD if load else Opcode.STORE, **fields)
            await stream_put(ctx, dut.commands, {
                "index": number, "command": command_layout.from_bits(
                    int.from_bytes(raw, "little"))})
            transfer = await stream_get(ctx, dut.transfers)
            code = expected_code(config, fields | {"memory": memory})
            assert (transfer.index, Error(transfer.code)) == (number, code), fields
            codes.append(code)
            if code is not Error.NONE:
                ctx.set(reset, 1)
                await ctx.tick()
                ctx.set(reset, 0)
                continue
            for field in ("lines", "units", "local_address"):
                assert transfer[field] == fields[field]
            unit_bytes, _ = geometry(config, memory)
            beats = -(-fields["units"] * unit_bytes // config.axi_bytes)
            lines = min(fields["lines"], 5)
            for line in range(lines):
                request = await stream_get(ctx, dut.requests)
                assert request.address == fields["address"] + line * fields["stride"]
                assert request.beats == beats
            if lines < fields["lines"]:
                ctx.set(reset, 1)
                await ctx.tick()
                ctx.set(reset, 0)

    sim = make_simulator(dut, reset=reset)
    sim.add_testbench(testbench)
    sim.run()
    assert all(codes.count(code) >= 10 for code in (Error.NONE, Error.ADDRESS))
