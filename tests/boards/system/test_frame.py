import random

import pytest
from stream_bench import make_simulator, stream_put, stream_sink, stream_watch

from weft.boards.system.frame import FrameReceiver, FrameTransmitter
from weft.boards.system.protocol import (
    ESCAPE,
    FLAG,
    Opcode,
    decode_response,
    encode_request,
    escape,
    unescape,
)

GAP = 10  # cycles between bytes: more than the 8 that a CRC takes


def random_bytes(rng, count):
    """Flags and escapes much more often than by chance."""
    return bytes(rng.choice([FLAG, ESCAPE, 0x5E, 0x5D, rng.randrange(256)]) for _ in range(count))


def take_apart(line):
    """What a receiver makes of bytes; None is one that was lost: lists of the frames' bytes, each
    with whether it was intact in the end."""
    dut = FrameReceiver()
    frames, body = [], []

    async def testbench(ctx):
        for byte in line:
            ctx.set(dut.i_data, 0 if byte is None else byte)
            ctx.set(dut.i_valid, byte is not None)
            ctx.set(dut.i_error, byte is None)
            await ctx.tick()
            ctx.set(dut.i_valid, 0)
            ctx.set(dut.i_error, 0)
            _clk, _rst, data, valid, flag, intact = await ctx.tick().sample(
                dut.o_data, dut.o_valid, dut.o_flag, dut.o_intact)
            if flag:
                frames.append((bytes(body), bool(intact)))
                body.clear()
            elif valid:
                body.append(data)
            await ctx.tick().repeat(GAP)

    sim = make_simulator(dut)
    sim.add_testbench(testbench)
    sim.run()
    return frames


def test_receiver_takes_frames_apart():
    rng = random.Random(1)
    line, wanted = b"", []
    for number in range(12):
        payload = random_bytes(rng, rng.randrange(1, 40))
        frame = encode_request(Opcode.WRITE_MEMORY, number, rng.randrange(1 << 32), len(payload),
                               payload)
        line += frame
        wanted.append((unescape(frame[1:-1]), True))
    assert [frame for frame in take_apart(line) if frame[0]] == wanted


def test_receiver_sees_an_intact_header_before_the_payload():
    frame = encode_request(Opcode.WRITE_MEMORY, 3, 0x1234, 2, b"ab")[1:-1]
    header = encode_request(Opcode.WRITE_MEMORY, 3, 0x1234, 2)[1:-1]
    assert frame.startswith(header)
    assert take_apart([*header, FLAG]) == [(unescape(header), True)]


@pytest.mark.parametrize("seed", range(4))
def test_receiver_is_ready_after_any_garbage_and_a_flag(seed):
    rng = random.Random(seed)
    garbage = [rng.choice([None, FLAG, ESCAPE, rng.randrange(256)]) for _ in range(60)]
    good = encode_request(Opcode.IDENTIFY, 7, 0, 4)
    assert take_apart([*garbage, *good])[-1] == (unescape(good[1:-1]), True)


@pytest.mark.parametrize("damage", ["flip", "lose", "error", "cut", "escape"])
def test_receiver_finds_damage(damage):
    rng = random.Random(5)
    body = list(encode_request(Opcode.WRITE_MEMORY, 9, 0x40, 30, bytes(range(30)))[1:-1])
    for at in rng.sample(range(len(body)), 6):
        line = list(body)
        if damage == "flip":
            line[at] ^= 0x80 if line[at] in (FLAG ^ 0x80, ESCAPE ^ 0x80) else 0x01
        elif damage == "lose":
            del line[at]
        elif damage == "error":
            line.insert(at, None)  # a byte that was none: the CRC alone would pass
        elif damage == "cut":
            del line[at:]
        else:
            line += [ESCAPE]
        *_, last = take_apart([FLAG, *line, FLAG])
        assert not last[1]


@pytest.mark.parametrize("stalls", [(0, 0), (0.6, 0), (0, 0.6), (0.5, 0.5)])
def test_transmitter_makes_frames(stalls):
    rng = random.Random(str(stalls))
    bodies = [random_bytes(rng, rng.randrange(2, 30)) for _ in range(8)]
    dut = FrameTransmitter()
    line = []

    async def source(ctx):
        for body in bodies:
            for number, byte in enumerate(body):
                while rng.random() < stalls[0]:
                    await ctx.tick()
                ctx.set(dut.i_last, number == len(body) - 1)
                await stream_put(ctx, dut.i, byte)
        await ctx.tick().repeat(100 * GAP)

    async def uart(ctx):
        while True:
            await stream_sink(dut.o, line, 1, stall=stalls[1], seed=len(line))(ctx)
            for _ in range(GAP):
                await ctx.tick()

    sim = make_simulator(dut)
    sim.add_testbench(source)
    sim.add_testbench(uart, background=True)
    sim.add_testbench(stream_watch(dut.o), background=True)
    sim.run()
    frames = [frame for frame in bytes(line).split(bytes([FLAG])) if frame]
    answers = [decode_response(frame) for frame in frames]
    assert [(answer.tag, answer.flags, answer.data) for answer in answers] \
        == [(body[0], body[1] & 7, body[2:]) for body in bodies]
    assert line[0] == line[-1] == FLAG


def test_escapes_are_undone():
    rng = random.Random(2)
    for count in range(50):
        data = random_bytes(rng, count)
        assert unescape(escape(data)) == data
        assert FLAG not in escape(data)


@pytest.mark.parametrize("frame", [b"", b"\x01\x00", b"\x01\x00\x00\x00\x00\x00",
                                   bytes([ESCAPE]) * 9])
def test_what_is_no_answer_is_refused(frame):
    assert decode_response(frame) is None
