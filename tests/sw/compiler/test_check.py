"""The check of finished programs finds whatever is wrong with one."""

import re
from dataclasses import replace

import numpy as np
import pytest
from amaranth.lib import data
from compiled_graphs import TINY, branchy, build, chain, field, tokens
from graph_builder import GraphBuilder

from weft.compiler import Program, ProgramError, check, compile
from weft.compiler.assembly.accesses import accesses
from weft.hw.isa.commands import COMMAND_BYTES, COMMANDS, Engine, Opcode, VectorOp
from weft.hw.isa.encoding import decode, encode


def encoded_again(raw: bytes, **changes: int) -> bytes:
    """A command with some fields changed."""
    opcode, fields = decode(raw)
    for name, place in data.Layout.cast(COMMANDS[opcode]):
        if name in fields and isinstance(place.shape, type):
            fields[name] = place.shape(fields[name])
    return encode(opcode, **{**fields, **changes})


def changed(program: Program, index: int, **changes: int) -> Program:
    """The program with some fields of one command changed."""
    raw = encoded_again(program.command(index), **changes)
    at = index * COMMAND_BYTES
    return replace(program, commands=program.commands[:at] + raw
                   + program.commands[at + COMMAND_BYTES:])


# The check ------------------------------------------------------------------------------------

def windows():
    builder = GraphBuilder(np.random.default_rng(0), (6, 8, 8))
    deep = builder.depthwise(builder.conv("x", 7), kernel=(3, 3), pads=(1, 1, 1, 1))
    pooled = builder.max_pool(builder.lookup(deep), kernel=(2, 2), strides=(2, 2))
    added = builder.sum(pooled, builder.conv(deep, 7, kernel=(2, 2), strides=(2, 2)))
    return builder.graph(builder.conv(added, 5, like="x"))


PROGRAMS = [lambda: compile(branchy(), TINY.replace(activation_bytes=4096 * 3, weight_bytes=2400)),
            lambda: compile(chain(8), TINY, keep_tensors=True),
            lambda: compile(build((32, 4, 4), 70), TINY.replace(weight_bytes=512)),
            lambda: compile(windows(), TINY),
            lambda: compile(windows(), TINY.replace(activation_bytes=512))]


@pytest.mark.parametrize("make", PROGRAMS)
def test_check_finds_every_missing_wait(make):
    program = make()
    for _, consumer in tokens(program):
        wait = field(program, consumer, "wait")
        with pytest.raises(ProgramError):
            check(changed(program, consumer, wait=wait & (wait - 1)))


@pytest.mark.parametrize("make", PROGRAMS)
def test_check_finds_every_missing_post(make):
    program = make()
    for producer, _ in tokens(program):
        post = field(program, producer, "post")
        with pytest.raises(ProgramError):
            check(changed(program, producer, post=post & (post - 1)))


@pytest.mark.parametrize("make", PROGRAMS)
def test_check_finds_every_missing_token(make):
    program = make()
    for producer, consumer in tokens(program):
        to = 1 << program.infos[consumer].engine.value
        from_ = 1 << program.infos[producer].engine.value
        without = changed(program, consumer, wait=field(program, consumer, "wait") & ~from_)
        without = changed(without, producer, post=field(without, producer, "post") & ~to)
        with pytest.raises(ProgramError, match=r"does not wait for it$"):
            check(without)


@pytest.mark.parametrize("layer", ["conv", "lookup"])
def test_a_command_waits_for_its_own_engine_only_if_it_reads_what_that_writes(layer):
    builder = GraphBuilder(np.random.default_rng(0), (4, 1, 25))
    if layer == "conv":
        graph = builder.graph(*(builder.conv(builder.conv("x", 4), 4) for _ in range(2)))
    else:
        graph = builder.graph(*(builder.lookup(builder.lookup("x")) for _ in range(2)))
    program = compile(graph, TINY, keep_tensors=True)
    engine = Engine.MATRIX if layer == "conv" else Engine.VECTOR
    commands = [index for index, info in enumerate(program.infos) if info.engine is engine]
    by_layer = {info.layer: index for index, info in enumerate(program.infos)
                if info.engine is engine}
    made = {graph.layers[number].output: index for number, index in by_layer.items()}
    pairs = [(made[graph.layers[number].input], index) for number, index in by_layer.items()
             if graph.layers[number].input in made]
    assert len(commands) == 4 and len(pairs) == 2
    assert [pair for pair in tokens(program) if set(pair) <= set(commands)] == pairs


def test_check_of_a_vector_command_follows_its_definition():
    rng = np.random.default_rng(1)
    config = TINY.replace(vector_taps=2)
    raw = compile(windows(), config)
    base = next(fields for index in range(raw.count)
                for opcode, fields in [decode(raw.command(index))] if opcode is Opcode.VECTOR)
    for op in VectorOp:
        for _ in range(20):
            pair = op in (VectorOp.ADD, VectorOp.MULTIPLY)
            window = op in (VectorOp.CONV, VectorOp.MAX)
            fields = {**base, "op": op.value, "broadcast": int(pair and rng.random() < 0.4)}
            for name in fields:
                if name.endswith("_step"):
                    fields[name] = int(rng.integers(0, 40))
            for name, high in (("blocks", 3), ("out_outer", 4), ("out_inner", 4), ("in_outer", 5),
                               ("in_inner", 5), ("stride_outer", 3), ("stride_inner", 3)):
                fields[name] = int(rng.integers(1, high + 1))
            fields["kernel_outer"] = int(rng.integers(1, 4)) if window else 1 + pair
            fields["kernel_inner"] = int(rng.integers(1, 4)) if window else 2 if pair else 1
            for axis in ("outer", "inner"):
                fields[f"pad_{axis}"] = int(rng.integers(0, 3)) if window else 0
                fields[f"dilation_{axis}"] = int(rng.integers(1, 3)) if window else 0
                if not window:
                    fields[f"in_{axis}"], fields[f"stride_{axis}"] = fields[f"out_{axis}"], 1
            fields["in_base"], fields["out_base"] = 700, int(rng.integers(2000))
            fields["table"] = int(rng.integers(op is VectorOp.LOOKUP, 5))
            fields["table_step"] = int(fields["table"] and rng.integers(2))
            read, written = set(), set()
            for block, y, x in np.ndindex(*(fields[name] for name in ("blocks", "out_outer",
                                                                      "out_inner"))):
                def at(kind, *, block=block, y=y, x=x, fields=fields):
                    return (fields[f"{kind}_base"] + block * fields[f"{kind}_block_step"]
                            + y * fields[f"{kind}_outer_step"]
                            + x * fields[f"{kind}_inner_step"])
                written.add(at("out"))
                taps = (fields["kernel_outer"], fields["kernel_inner"]) if window else (1, 1)
                for row, tap in np.ndindex(*taps):
                    v = (y * fields["stride_outer"] + row * fields["dilation_outer"]
                         - fields["pad_outer"])
                    u = (x * fields["stride_inner"] + tap * fields["dilation_inner"]
                         - fields["pad_inner"])
                    if 0 <= v < fields["in_outer"] and 0 <= u < fields["in_inner"]:
                        read.add(at("in") + row * fields["kernel_outer_step"]
                                 + tap * fields["kernel_inner_step"])
                if pair and fields["broadcast"]:
                    read.add(fields["in_base"] + fields["kernel_outer_step"]
                             + block * fields["kernel_inner_step"])
                elif pair:
                    read.add(at("in") + fields["kernel_outer_step"])
            found = list(accesses(config, Opcode.VECTOR, fields))
            for write, expected in ((False, read), (True, written)):
                spans = [range(access.start, access.stop) for access in found
                         if access.space == "activation" and access.write is write]
                assert sorted({word for span in spans for word in span}) == sorted(expected)
            constants = {access.space for access in found} - {"activation", "table"}
            assert constants == {
                VectorOp.CONV: {"vector_weight", "vector_parameter"}, VectorOp.MAX: set(),
                VectorOp.ADD: {"vector_weight", "vector_parameter"},
                VectorOp.MULTIPLY: {"vector_parameter"}, VectorOp.LOOKUP: set()}[op]
            numbers = {entry // 256 + 1 for access in found if access.space == "table"
                       for entry in range(access.start, access.stop)}
            last = fields["table"] + fields["table_step"] * (fields["blocks"] - 1)
            assert numbers == (set(range(fields["table"], last + 1)) if fields["table"] else set())


def test_check_compares_the_warm_stream_with_the_cold_one():
    program = compile(chain(2), TINY)
    assert len(program.warm_infos) == program.count - 4
    at, cold = (next(index for index, info in enumerate(infos) if info.engine is Engine.MATRIX)
                for infos in (program.warm_infos, program.infos))
    raw = program.warm_commands[at * COMMAND_BYTES:(at + 1) * COMMAND_BYTES]
    raw = encoded_again(raw, out_zero=decode(raw)[1]["out_zero"] ^ 1)
    warm = (program.warm_commands[:at * COMMAND_BYTES] + raw
            + program.warm_commands[(at + 1) * COMMAND_BYTES:])
    with pytest.raises(ProgramError, match=rf"^Warm command {at} \(MATRIX\) must do what command "
                                           rf"{cold} \(MATRIX\) does$"):
        check(replace(program, warm_commands=warm))
    with pytest.raises(ProgramError, match=r"^Warm stream must have 1 commands for LOAD, not 0$"):
        check(replace(program, warm_commands=program.warm_commands[COMMAND_BYTES:]))


def test_check_finds_constants_that_the_warm_stream_misses():
    program = compile(chain(2), TINY)
    number = [info.text for info in program.infos].index("layer1 weights")
    at = number * COMMAND_BYTES  # the second layer's weights over the first's
    raw = encoded_again(program.command(number), local_address=0, wait=1 << Engine.MATRIX.value)
    moved = program.commands[:at] + raw + program.commands[at + COMMAND_BYTES:]
    with pytest.raises(ProgramError):
        check(replace(program, commands=moved))


def test_check_names_a_deadlock():
    program = compile(chain(1), TINY)
    with pytest.raises(ProgramError, match=r"^Deadlock: command 0 \(LOAD\) waits for STORE, "
                                           r"command 3 \(MATRIX\) waits for LOAD, "
                                           r"command 4 \(STORE\) waits for MATRIX$"):
        check(changed(program, 0, wait=1 << Engine.STORE.value))


def test_check_names_a_semaphore_that_is_left_over():
    program = compile(chain(1), TINY)
    with pytest.raises(ProgramError, match=r"^Semaphore STORE to LOAD must be zero at the end, "
                                           r"not 1$"):
        check(changed(program, 4, post=1 << Engine.LOAD.value))


def test_check_refuses_a_token_that_comes_later_in_the_stream():
    program = compile(chain(2), TINY)
    # The first matrix command comes before the loads for the second, and its token from the last
    # of them: no deadlock, since that waits for nothing, but the weights need not be there.
    order = [0, 1, 2, 5, 3, 4, 6, 7]
    assert [program.infos[index].text for index in order[2:6]] == [
        "layer0 parameters", "layer0", "layer1 weights", "layer1 parameters"]
    moved = replace(program, infos=tuple(program.infos[index] for index in order),
                    commands=b"".join(map(program.command, order)))
    moved = changed(changed(moved, 2, post=0), 4, post=1 << Engine.MATRIX.value)
    with pytest.raises(ProgramError, match=r"^Command 3 \(matrix\) waits for a token that LOAD "
                                           r"only gives later in the stream$"):
        check(moved)


@pytest.mark.parametrize("index, changes, message", [
    (1, {"local_address": 3}, "Command 1 (load) writes weight 3 to 5, outside its buffers"),
    (0, {"units": 10}, "Command 0 (load) reads external"),
    (3, {"col_tiles": 2}, "Command 3 (matrix) reads weight 0 to 4, outside its buffers"),
    (3, {"out_base": 0}, "Command 3 (matrix) writes activation 0 to 9, outside its buffers"),
    (3, {"in_base": 1}, "Command 3 (matrix) reads activation 1 to 10, outside its buffers"),
    (4, {"local_address": 10}, "Command 4 (store) reads activation 10 to 19, outside its buffers"),
    (4, {"address": 64}, "Command 4 (store) writes external 64 to 100, outside its buffers"),
])
def test_check_keeps_commands_inside_their_buffers(index, changes, message):
    program = compile(chain(1), TINY)
    check(program)
    with pytest.raises(ProgramError, match=f"^{re.escape(message)}"):
        check(changed(program, index, **changes))


def test_check_finds_a_read_of_what_nobody_wrote():
    program = compile(chain(1), TINY)
    with pytest.raises(ProgramError, match=r"^Command 3 \(matrix\) reads activation 0 to 9, not "
                                           r"all of it written$"):
        check(changed(program, 0, units=8))


def test_check_finds_a_command_that_overwrites_its_input():
    program = compile(chain(1), TINY)
    loose = replace(program.infos[3], writes=(("activation", 0, 100),))
    infos = (*program.infos[:3], loose, *program.infos[4:])
    with pytest.raises(ProgramError, match=r"^Command 3 \(matrix\) overwrites its own input$"):
        check(changed(replace(program, infos=infos), 3, out_base=8))


def test_check_names_an_illegal_opcode():
    program = compile(chain(1), TINY)
    with pytest.raises(ProgramError, match=r"^Command 0: Opcode 0xff is illegal$"):
        check(replace(program, commands=b"\xff" + program.commands[1:]))


def test_check_bounds_the_tokens_of_a_semaphore():
    program = compile(chain(1), TINY)
    # 300 loads each give a token that as many stores at the end of the stream take.
    load, store = program.command(0), program.command(4)
    loads = [load[:1] + bytes([8 << 4]) + load[2:]] * 300
    stores = [store[:1] + bytes([1]) + store[2:]] * 300
    many = replace(program, commands=b"".join([*loads, *stores]),
                   infos=(program.infos[0],) * 300 + (program.infos[4],) * 300)
    with pytest.raises(ProgramError, match=r"^Semaphore LOAD to STORE may hold 256 tokens after "
                                           r"command 255 \(LOAD\), it holds at most 255$"):
        check(many)
