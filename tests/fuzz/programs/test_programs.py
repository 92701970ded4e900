"""Random command streams on the RTL, and the tools that draw and shrink them."""

import itertools
import random
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from fuzz.programs import __main__ as runner
from fuzz.programs.batch import CONFIGS, draw, load, save
from fuzz.programs.layout import Layout
from fuzz.programs.order import encode_stream, tokens, touches
from fuzz.programs.rows import SETS, areas, constants_fit, set_fields
from fuzz.programs.run import Difference, compare
from fuzz.programs.shrink import shrink
from fuzz.programs.spoil import spoil
from fuzz.programs.streams import Painter
from weft.compiler.assembly.accesses import MEMORIES, SPACES, accesses
from weft.compiler.assembly.check import ProgramError, _check_stream, _decode, _Segments
from weft.hw.isa.commands import Opcode
from weft.hw.isa.registers import Error
from weft.ir.layout import unpack_normalization
from weft.runtime.device import DeviceStopped, Driver
from weft.runtime.device.functional import FunctionalDevice

SLICE = {"tiny": 4, "odd": 3, "products": 3, "products_plain": 2, "lines": 4, "sequential": 3,
         "base": 1}  # batches
FUNCTIONAL = [name for name in CONFIGS if name != "base"]


def seeds(first, counts):
    return [(name, f"{first}.{number}") for name, count in counts.items()
            for number in range(count)]


@pytest.mark.parametrize("config, seed", seeds("test", SLICE))
def test_random_streams_do_the_same_on_the_rtl(config, seed):
    compare(draw(config, seed))


@pytest.mark.slow
@pytest.mark.parametrize("config, seed", seeds("slow", dict.fromkeys(CONFIGS, 20)))
def test_more_random_streams_do_the_same_on_the_rtl(config, seed):
    compare(draw(config, seed))


# What is drawn --------------------------------------------------------------------------------

def painted(config, seed, streams):
    """Layout, and legal streams."""
    rng = random.Random(f"{config} {seed}")
    layout = Layout.draw(rng, CONFIGS[config])
    painter = Painter(rng, layout)
    return layout, [painter.stream() for _ in range(streams)]


def test_a_seed_gives_the_same_batch_and_another_one_another():
    assert draw("tiny", "1") == draw("tiny", "1") != draw("tiny", "2")


def test_every_operation_and_flag_is_drawn():
    _, streams = painted("products", "all", 200)
    commands = [command for stream in streams for command in stream]
    assert {command.opcode for command in commands} == set(Opcode)
    vectors = [command.fields for command in commands if command.opcode is Opcode.VECTOR]
    assert {(f["op"], flag) for f in vectors for flag in ("slide", "broadcast", "subtract",
                                                          "shared") if f[flag]} >= {
        (0, "slide"), (1, "slide"), (2, "broadcast"), (3, "broadcast"), (2, "subtract"),
        (0, "shared"), (2, "shared"), (3, "shared")}
    assert {command.fields["memory"] for command in commands
            if command.opcode is Opcode.LOAD} == set(range(8))
    tiles = [command.fields for command in commands if command.opcode is Opcode.MATRIX]
    few = [all(f[name] == 1 for name in ("out_pixels", "kernel_h", "kernel_w", "channel_blocks"))
           for f in tiles]
    assert any(few) and any(f["out_pixels"] > f["tile_pixels"] > 1 for f in tiles)
    neighbours = [(first.opcode, second.opcode) for stream in streams
                  for first, second in itertools.pairwise(stream)]
    assert {(one, other) for one in Opcode for other in Opcode} == set(neighbours)


def test_windows_of_kept_rows_are_drawn():
    _, streams = painted("lines", "all", 200)
    vectors = [command.fields for stream in streams for command in stream
               if command.opcode is Opcode.VECTOR and command.fields["lines"]]
    assert {(f["op"], f["kernel_inner"], f["stride_inner"]) for f in vectors} == set(
        itertools.product((0, 1), (3, 5), (1, 2)))
    resuming = [f for f in vectors if f["resumes"]]
    assert {(f["op"], f["kernel_inner"]) for f in resuming} == set(
        itertools.product((0, 1), (3, 5)))
    assert {f["quarter"] for f in resuming} == {0, 1, 2, 3}


@pytest.mark.parametrize("name", ["products", "products_plain"])
def test_every_normalize_finds_its_constants(name):
    config = CONFIGS[name]
    _, streams = painted(name, "constants", 100)
    commands = [command for stream in streams for command in stream]
    normal = [command for command in commands if command.opcode is Opcode.NORMALIZE]
    lengths = [0] * SETS
    assert all(constants_fit(config, command, lengths) for command in commands)
    assert {command.fields["blocks"] for command in normal} >= {
        -(-8 // config.rows), config.normalize_channels // config.rows}
    places = {command.fields["epsilon"] for command in normal}
    assert len(places) > 2
    for command in normal[:20]:
        for wrong in ({"out_zero": command.fields["out_zero"] ^ 1}, {"lanes": 1}, {"blocks": 9}):
            changed = replace(command, fields=command.fields | wrong)
            assert not constants_fit(config, changed, [config.normalize_channels] * SETS)
        assert not constants_fit(config, command, [0] * SETS)


def test_constants_of_a_normalize_are_as_its_command_asks():
    config = CONFIGS["products"]
    for number, (address, raw) in enumerate(areas(config)):
        assert address >= Layout.CONSTANTS.start and address + len(raw) <= Layout.CONSTANTS.stop
        values, thresholds, *_ = unpack_normalization(
            np.frombuffer(raw, np.int8).reshape(-1, 4), config.normalize_channels)
        fields = set_fields(number, 24)
        steps = thresholds.astype(float) * fields["rate"] * 2.0 ** (fields["rate_exponent"] - 15)
        expected = np.arange(-128, 127) + 0.5 - fields["out_zero"]
        assert np.abs(steps - expected).max() < 0.25
        unit = 2.0 ** (fields["sum_exponent"] - 150)
        assert (values / unit == np.rint(values / unit)).all()
        assert np.abs(values).max() < 2.0 ** (fields["sum_exponent"] - 118)
        assert fields["length"] * 2 ** (fields["length_exponent"] - 15) == 24


def proven(config, stream, masks):
    """Raises unless the compiler's last pass finds that the stream is sound."""
    commands = _decode(encode_stream(stream, masks))
    before = {}
    for memory, kind in MEMORIES.items():
        before[SPACES[memory]] = segments = _Segments()
        segments.write(0, kind.depth(config), -1)
    infos = []
    for command in commands:
        touched = list(accesses(config, command.opcode, command.fields))
        reads, writes = ([(access.space, access.start, access.stop) for access in touched
                          if access.write is write] for write in (False, True))
        infos.append(SimpleNamespace(reads=reads, writes=writes, layer=None))
    _check_stream(commands, SimpleNamespace(
        config=config, memory_bytes=Layout.MEMORY_BYTES, inputs=(), outputs=(), kept=(),
        image=[(0, bytes(Layout.MEMORY_BYTES))]), infos, before)


@pytest.mark.parametrize("name", FUNCTIONAL)
def test_drawn_streams_are_sound_by_the_proof_of_the_compiler(name):
    config = CONFIGS[name]
    _, streams = painted(name, "sound", 60)
    proofs = loose = 0
    for number, stream in enumerate(streams):
        if any(reads & writes for command in stream
               for reads, writes in touches(config, command).values()):
            continue  # in place, word by word: which the compiler never does
        proven(config, stream, tokens(config, stream, random.Random(number)))
        proofs += 1
        try:
            proven(config, stream, [(0, 0)] * len(stream))
        except ProgramError:
            loose += 1
    assert proofs > 25 and loose > 10


def test_drawn_streams_give_the_same_in_any_order_that_tokens_allow():
    for seed, name in enumerate(("tiny", "products", "tiny", "products_plain")):
        batch = draw(name, f"order {seed}")
        compare(batch, lambda batch, seed=seed: FunctionalDevice(
            CONFIGS[batch.config], memory_bytes=Layout.MEMORY_BYTES, seed=seed + 1))


@pytest.mark.parametrize("name", CONFIGS)
def test_a_spoiled_stream_is_stopped_by_the_command_that_was_spoiled(name):
    config = CONFIGS[name]
    rng = random.Random(name)
    painter = Painter(rng, Layout.draw(rng, config))
    errors = set()
    for _ in range(40):
        stream = spoil(rng, config, painter.stream())
        device = FunctionalDevice(config, memory_bytes=Layout.MEMORY_BYTES)
        raw = encode_stream(stream, tokens(config, stream, rng))
        device.write_memory(0, raw)
        with pytest.raises(DeviceStopped) as caught:
            Driver(device).run(0, len(stream))
        assert caught.value.index == next(
            index for index, command in enumerate(stream) if command.origin is not None)
        errors.add(caught.value.error)
    assert errors >= {Error.OPCODE, Error.ADDRESS, Error.ARGUMENT}


# Finding, shrinking, repeating ----------------------------------------------------------------

class Forgetful(FunctionalDevice):
    """Loses the result of a matrix command of one pixel that comes right behind a larger one."""

    def _begin(self, command):
        rest = super()._begin(command)
        if command.opcode is not Opcode.MATRIX:
            return rest
        one = command.fields["out_pixels"] == 1
        lost, self._large = one and getattr(self, "_large", False), not one
        return (lambda: None) if lost else rest


def forgetful(batch):
    return Forgetful(CONFIGS[batch.config], memory_bytes=Layout.MEMORY_BYTES)


@pytest.fixture(scope="module")
def failure():
    """A batch that fails on a device that is wrong, and how."""
    for number in range(20):
        batch = draw("tiny", f"wrong {number}", 5)
        try:
            compare(batch, forgetful)
        except Difference as error:
            return batch, error
    raise AssertionError("no stream shows the mistake")


def test_a_device_that_is_wrong_is_found_and_the_stream_shrunk(failure, tmp_path):
    batch, error = failure
    smaller, found = shrink(batch, error, forgetful, attempts=1000)
    commands = [command for stream in smaller.streams for command in stream]
    assert len(commands) == 2
    assert {command.opcode for command in commands} == {Opcode.MATRIX}
    assert [command.fields["out_pixels"] for command in commands] == [2, 1]

    path = save(smaller, found, tmp_path)
    assert load(path) == smaller
    with pytest.raises(Difference) as again:
        compare(load(path), forgetful)
    assert str(again.value) == str(found)
    text = path.with_suffix(".txt").read_text()
    assert text.startswith(str(found)) and text.count("matrix wait=") == 2


def test_the_runner_tells_what_it_did(monkeypatch, capsys, tmp_path):
    def fail(batch):
        if batch.seed == "wrong.1":
            raise Difference(3, "something")
        return 2

    monkeypatch.setattr(runner, "compare", fail)
    monkeypatch.setattr(runner, "shrink", lambda batch, error: (batch, error))
    arguments = ["--config", "tiny", "--count", "25", "--seed", "wrong", "--out", str(tmp_path)]
    assert runner.main(arguments) == 1
    text = capsys.readouterr().out
    assert "tiny seed wrong.1: Stream 3: something\n" in text
    assert f"shrunk to {tmp_path / 'tiny-wrong.1.json'}: Stream 3: something\n" in text
    assert "tiny: 40 streams of " in text and ", 2 of them stopped by an error, 1 failures" in text
    assert load(tmp_path / "tiny-wrong.1.json") == draw("tiny", "wrong.1")
    assert runner.main(["--repeat", str(tmp_path / "tiny-wrong.1.json")]) == 1
    assert capsys.readouterr().out == "Stream 3: something\n"

    monkeypatch.setattr(runner, "compare", lambda batch: 0)
    assert runner.main(["--config", "odd", "--count", "20"]) == 0
