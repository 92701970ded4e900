"""What the model of the device makes of wrong VECTOR commands."""

import pytest
from amaranth.lib import data

from weft.hw.isa.commands import Memory, Opcode, VectorCommand, VectorOp
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.encoding import encode
from weft.hw.isa.presets import PRESETS
from weft.hw.isa.registers import Error
from weft.runtime.device import DeviceStopped, Driver
from weft.runtime.device.functional import FunctionalDevice

TINY = PRESETS["tiny"]
VECTOR = {"in_base": 0, "in_zero": 0, "in_block_step": 1, "pad_outer": 0, "in_outer_step": 1,
          "pad_inner": 0, "in_inner_step": 1, "kernel_outer": 1, "kernel_outer_step": 1,
          "kernel_inner": 1, "kernel_inner_step": 1, "second_zero": 0, "in_outer": 1,
          "in_inner": 1, "stride_outer": 1, "stride_inner": 1, "dilation_outer": 1,
          "dilation_inner": 1, "blocks": 1, "out_outer": 1, "out_inner": 1, "weight_base": 0,
          "out_base": 8, "out_zero": 0, "out_block_step": 1, "clamp_min": -128,
          "out_outer_step": 1, "clamp_max": 127, "out_inner_step": 1, "op": VectorOp.CONV,
          "slide": 0, "broadcast": 0, "subtract": 0, "shared": 0, "parameter_base": 0, "table": 0,
          "table_step": 0, "rule": 0, "lines": 0, "resumes": 0, "quarter": 0}
ADD = {"op": VectorOp.ADD, "kernel_outer": 2, "kernel_inner": 1, "dilation_outer": 0}
LOOKUP = {"op": VectorOp.LOOKUP, "table": 1}
LINES = {"lines": 1, "slide": 1, "kernel_outer": 3, "kernel_inner": 3, "in_outer": 1}


def vector(**changes) -> bytes:
    return encode(Opcode.VECTOR, **{**VECTOR, **changes})


def run(*commands: bytes, config: AcceleratorConfig = TINY) -> FunctionalDevice:
    device = FunctionalDevice(config, memory_bytes=4096)
    device.write_memory(0, b"".join(commands))
    Driver(device).run(0, len(commands))
    return device


@pytest.mark.parametrize("changes", [
    {}, {"op": VectorOp.MAX}, ADD, {**ADD, "op": VectorOp.MULTIPLY}, LOOKUP,
    {"slide": 1}, {"in_base": (1 << 24) - 1, "pad_inner": 1, "kernel_inner": 2},
    {"op": VectorOp.LOOKUP, "table": TINY.vector_tables},
    {"table": 1, "table_step": 1, "blocks": TINY.vector_tables},
    {"op": VectorOp.MAX, "table": 2}, {**ADD, "table": 3},
    {"op": VectorOp.MAX, "weight_base": 65535, "parameter_base": 65535},
    {"op": VectorOp.MAX, "shared": 1}, {**LOOKUP, "shared": 1},
    {**ADD, "broadcast": 1, "subtract": 1, "shared": 1}, {"clamp_min": 3, "clamp_max": 3},
    {**ADD, "op": VectorOp.MULTIPLY, "broadcast": 1},
])
def test_legal_command_is_executed(changes):
    run(vector(**changes))


KEEPING = TINY.replace(vector_taps=10, vector_lines=16)


@pytest.mark.parametrize("changes", [
    {}, {"op": VectorOp.MAX}, {"kernel_outer": 5, "kernel_inner": 5}, {"out_inner": 14},
    {"out_inner": 15, "pad_inner": 1}, {"stride_inner": 2, "stride_outer": 200},
    {"weight_base": KEEPING.vector_entries - 1}])
def test_rows_are_kept(changes):
    run(vector(**LINES | changes), config=KEEPING)


def test_both_multipliers_of_a_sum_are_in_one_entry_with_lines():
    last = ADD | {"weight_base": KEEPING.vector_entries - 1}
    run(vector(**last), config=KEEPING)
    with pytest.raises(DeviceStopped) as info:
        run(vector(**last), config=KEEPING.replace(vector_lines=0))
    assert info.value.error is Error.ADDRESS


@pytest.mark.parametrize("changes", [
    {"slide": 0}, {"kernel_inner": 5}, {"kernel_outer": 4, "kernel_inner": 4}, {"out_inner": 15},
    {"out_inner": 8, "stride_inner": 2}, {"stride_inner": 3}, {"stride_outer": 0},
    {"dilation_outer": 2}, LOOKUP, ADD])
def test_rows_that_cannot_be_kept_are_an_argument_error(changes):
    with pytest.raises(DeviceStopped) as info:
        run(vector(), vector(**LINES | changes), config=KEEPING)
    assert (info.value.error, info.value.index) == (Error.ARGUMENT, 1)
    with pytest.raises(DeviceStopped) as info:
        run(vector(**LINES))
    assert info.value.error == Error.ARGUMENT


@pytest.mark.parametrize("rule", [1, 2])
def test_rule_of_fixed_point_needs_the_hardware_and_a_result_that_is_rounded(rule):
    able = TINY.replace(fixed_point=True)
    for changes in ({}, ADD, {**ADD, "op": VectorOp.MULTIPLY}):
        run(vector(rule=rule, **changes), config=able)
    for config, changes in ((TINY, {}), (able, {"op": VectorOp.MAX}), (able, LOOKUP)):
        with pytest.raises(DeviceStopped) as info:
            run(vector(rule=rule, **changes), config=config)
        assert info.value.error == Error.ARGUMENT


def test_unknown_rule_is_an_argument_error():
    raw = bytearray(vector())
    place = data.Layout.cast(VectorCommand)["rule"].offset
    raw[place // 8] |= 3 << place % 8
    with pytest.raises(DeviceStopped) as info:
        run(bytes(raw), config=TINY.replace(fixed_point=True))
    assert info.value.error == Error.ARGUMENT


@pytest.mark.parametrize("changes, error", [
    *(({name: 0}, Error.ARGUMENT) for name in (
        "blocks", "out_outer", "out_inner", "in_outer", "in_inner", "kernel_outer",
        "kernel_inner")),
    ({**ADD, "kernel_outer": 1}, Error.ARGUMENT),
    ({**ADD, "kernel_inner": 2}, Error.ARGUMENT),
    ({**ADD, "op": VectorOp.MULTIPLY, "kernel_inner": 2}, Error.ARGUMENT),
    ({**LOOKUP, "kernel_outer": 2}, Error.ARGUMENT),
    ({**LOOKUP, "table": 0}, Error.ARGUMENT),
    ({"table_step": 1}, Error.ARGUMENT),
    ({**ADD, "slide": 1}, Error.ARGUMENT),
    *(({**changes, flag: 1}, Error.ARGUMENT) for flag in ("broadcast", "subtract")
      for changes in ({}, {"op": VectorOp.MAX}, LOOKUP)),
    ({**ADD, "op": VectorOp.MULTIPLY, "subtract": 1}, Error.ARGUMENT),
    ({"clamp_min": 127, "clamp_max": -128}, Error.ARGUMENT),
    ({"out_outer": 65535, "out_inner": 65535}, Error.CYCLE_LIMIT),
    ({"slide": 1, "stride_inner": 0}, Error.ARGUMENT),
    ({"slide": 1, "dilation_inner": 2}, Error.ARGUMENT),
    ({"slide": 1, "kernel_outer": 33, "dilation_outer": 0}, Error.ARGUMENT),
    ({"in_base": TINY.activation_depth}, Error.ADDRESS),
    ({"out_base": TINY.activation_depth}, Error.ADDRESS),
    ({"weight_base": TINY.vector_entries}, Error.ADDRESS),
    ({**ADD, "weight_base": TINY.vector_entries - 1}, Error.ADDRESS),
    ({"parameter_base": TINY.vector_parameter_depth - 1}, Error.ADDRESS),
    ({"table": TINY.vector_tables + 1}, Error.ADDRESS),
    ({"table": 2, "table_step": 1, "blocks": TINY.vector_tables}, Error.ADDRESS),
])
def test_wrong_command_stops_the_device_with_its_index(changes, error):
    with pytest.raises(DeviceStopped) as info:
        run(vector(), vector(**changes))
    assert (info.value.error, info.value.index) == (error, 1)


def test_unknown_operation_is_an_argument_error():
    raw = int.from_bytes(vector(op=VectorOp.LOOKUP), "little")
    operation = raw ^ int.from_bytes(vector(op=VectorOp.CONV), "little")
    with pytest.raises(DeviceStopped) as info:
        run((raw | operation >> 1 | operation >> 2).to_bytes(64, "little"))
    assert info.value.error is Error.ARGUMENT


@pytest.mark.parametrize("memory, depth", [
    (Memory.VECTOR_WEIGHT, TINY.vector_entries),
    (Memory.VECTOR_PARAMETER, TINY.vector_parameter_depth),
    (Memory.TABLE, TINY.vector_table_bytes), (Memory.LANE_TABLE, TINY.vector_table_bytes),
])
def test_loads_stay_inside_the_memories_of_the_vector_engine(memory, depth):
    fields = {"memory": memory, "lines": 1, "address": 1024, "stride": 0, "units": 2,
              "local_stride": 0}
    run(encode(Opcode.LOAD, **fields, local_address=depth - 2))
    with pytest.raises(DeviceStopped) as info:
        run(encode(Opcode.LOAD, **fields, local_address=depth - 1))
    assert info.value.error is Error.ADDRESS
