import re

import numpy as np
import pytest
from copier import COPIER_ID, LAST_BEAT, SECOND_ID, SOURCE, STROBE, TARGET, Mischief
from copier_bench import CONFIG, DECERR, MEMORY_BYTES, OKAY, SLVERR, Bench, build_copier

from weft.errors import InputError
from weft.sim.simulator import MemoryModel, ProtocolError, RunStatus, SimulatorEvent


def test_registers_are_read_and_written_through_the_control_port(copier):
    bench = Bench(copier)
    assert bench.simulator.read_register(0) == COPIER_ID
    bench.simulator.write_register(TARGET, 0x89abcdef)
    assert bench.simulator.read_register(TARGET) == 0x89abcdef


@pytest.mark.parametrize("width", [
    pytest.param(32, marks=pytest.mark.slow), 64, pytest.param(512, marks=pytest.mark.slow)])
def test_bursts_are_copied_at_every_data_width(width):
    config = CONFIG.replace(axi_data_width=width)
    strobe = None if width < 512 else (1 << 32) - 1  # the register has 32 bits
    bench = Bench(build_copier(config), beat_bytes=width // 8, strobe=strobe, beats=8)
    bench.run()
    copied, data = bench.copied, bench.data
    if width == 512:
        keep = np.arange(len(data)) % 64 < 32
        data = (np.frombuffer(data, np.uint8) * keep).tobytes()
    assert copied == data
    assert bench.responses == (OKAY, OKAY)


@pytest.mark.parametrize("latency", [1, 2, 32, 333])
def test_first_beat_and_response_come_exactly_after_the_latency(copier, latency):
    beats = 16
    bench = Bench(copier, latency=latency, beats=beats)
    bench.run()
    start, done, _ = bench.simulator.events()
    # Cycle 1 asks; the second burst hides behind the first. Two cycles to change over; then twice
    # an address, the beats, the response.
    read = 1 + latency + 2 * beats - 1
    assert done.cycle - start.cycle == read + 1 + 2 * (1 + beats + latency)


@pytest.mark.parametrize("bandwidth", [0.1, 0.5, 0.75, 0.9])
def test_bandwidth_limit_is_kept_in_the_mean(copier, bandwidth):
    beats = 128
    unlimited = Bench(copier, beats=beats, latency=1).run()
    limited = Bench(copier, beats=beats, latency=1, bandwidth=bandwidth).run()
    expected = unlimited + 4 * beats * (1 / bandwidth - 1)
    # Credit saved up while nothing moves is at most one beat, in three pauses.
    assert expected - 5 - 3 / bandwidth <= limited <= expected + 5


def test_bandwidth_above_one_does_not_slow_a_single_direction(copier):
    assert Bench(copier, beats=128, bandwidth=1.5).run() == Bench(copier, beats=128).run()


@pytest.mark.parametrize("second_id", [0, 1])
@pytest.mark.parametrize("stall", [0.1, 0.5, 0.9])
def test_random_stalls_and_interleaving_change_no_data(copier, stall, second_id):
    for seed in range(10):
        bench = Bench(copier, stall_probability=stall, seed=seed, second_id=second_id)
        assert bench.run() > Bench(copier).run()
        assert bench.copied == bench.data
        assert bench.responses == (OKAY, OKAY)


def test_stalls_follow_the_seed_alone(copier):
    def cycles(seed):
        return Bench(copier, beats=128, stall_probability=0.3, seed=seed).run()

    assert cycles(1) == cycles(1)
    assert len({cycles(seed) for seed in range(5)}) > 1


def test_one_outstanding_burst_serializes_reads(copier):
    several = Bench(copier, latency=100, second_id=0, beats=4).run()
    single = Bench(copier, latency=100, second_id=0, beats=4, outstanding=1).run()
    assert single >= several + 90


def test_strobes_choose_the_bytes_written(copier):
    bench = Bench(copier, strobe=0b1010_0110)
    bench.simulator.write_memory(bench.target, b"\x5a" * len(bench.data))
    bench.run()
    expected = np.frombuffer(bench.data, np.uint8).copy()
    keep = np.tile([0, 1, 1, 0, 0, 1, 0, 1], len(expected) // 8).astype(bool)
    expected[~keep] = 0x5a
    assert bench.copied == expected.tobytes()
    assert bench.simulator.write_bytes == len(bench.data) // 2
    assert bench.simulator.read_bytes == len(bench.data)


def test_read_takes_its_data_when_the_address_is_accepted(copier):
    bench = Bench(copier, latency=1000)
    bench.start()
    bench.simulator.run(100)
    bench.simulator.write_memory(bench.source, bytes(len(bench.data)))
    bench.simulator.run_until_irq(100_000)
    assert bench.copied == bench.data


def test_write_reaches_memory_only_with_its_response(copier):
    bench = Bench(copier, latency=1000)
    bench.start()
    bench.simulator.run(1900)
    assert bench.copied == bytes(len(bench.data))
    bench.simulator.run(200)
    half = len(bench.data) // 2
    assert bench.copied == bench.data[:half] + bytes(half)


@pytest.mark.parametrize("field, responses", [("source", (DECERR, OKAY)),
                                              ("target", (OKAY, DECERR))])
def test_address_outside_the_memory_is_answered_with_decerr(copier, field, responses):
    bench = Bench(copier, **{field: MEMORY_BYTES})
    bench.run()
    assert bench.responses == responses


def test_burst_over_the_end_of_the_memory_writes_nothing(copier):
    size = MEMORY_BYTES - 64
    bench = Bench(copier, bytes=size, target=size - 192)
    bench.run()
    assert bench.responses == (OKAY, DECERR)
    assert bench.simulator.read_memory(size - 192, 192) == bench.data[:128] + bytes(64)


@pytest.mark.parametrize("offset, error", [(-8, OKAY), (0, SLVERR), (248, SLVERR), (256, OKAY)])
def test_read_that_touches_an_error_range_is_answered_with_slverr(copier, offset, error):
    bench = Bench(copier)
    address = bench.source + offset
    bench.simulator.add_error_range(address, address + 8)
    bench.run()
    assert bench.responses == (error, OKAY)
    bench.simulator.clear_error_ranges()
    bench.run()
    assert bench.responses == (OKAY, OKAY)


def test_write_that_touches_an_error_range_is_not_done(copier):
    bench = Bench(copier)
    bench.simulator.add_error_range(bench.target + 100, bench.target + 101)
    bench.run()
    assert bench.responses == (OKAY, SLVERR)
    half = len(bench.data) // 2
    assert bench.copied == bytes(half) + bench.data[half:]


@pytest.mark.parametrize("after_beats", [0, 5, 32, 40])
def test_stopped_memory_answers_nothing_until_it_is_resumed(copier, after_beats):
    bench = Bench(copier)
    bench.simulator.stop_memory(after_beats=after_beats)
    bench.start()
    assert bench.simulator.run_until_irq(5000) is RunStatus.TIMEOUT
    assert bench.simulator.read_bytes + bench.simulator.write_bytes == 8 * after_beats
    bench.simulator.resume_memory()
    assert bench.simulator.run_until_irq(5000) is RunStatus.IRQ
    assert bench.copied == bench.data


def test_reset_forgets_what_a_stopped_memory_owes(copier):
    bench = Bench(copier)
    bench.simulator.stop_memory(after_beats=5)
    bench.start()
    bench.simulator.run(1000)
    bench.simulator.resume_memory()
    bench.simulator.reset()
    for register, value in ((SOURCE, bench.source), (TARGET, bench.target), (LAST_BEAT, 15),
                            (STROBE, 0xff), (SECOND_ID, 1)):
        bench.simulator.write_register(register, value)
    bench.run()
    assert bench.copied == bench.data


@pytest.mark.parametrize("mischief, rule", [
    (Mischief.LAST,     "WLAST is 1 in beat 15 of a burst of 16"),
    (Mischief.CHANGE,   "AR changed before it was accepted"),
    (Mischief.WITHDRAW, "AW was withdrawn before it was accepted"),
    (Mischief.TYPE,     "AR asks for burst type 2, only INCR is allowed"),
    (Mischief.SIZE,     "AR asks for beats of 1 bytes on a port of 8"),
    (Mischief.DATA,     "W changed before it was accepted"),
])
def test_broken_protocol_stops_the_run_and_is_named(copier, mischief, rule):
    # The stalls make valid wait for ready; what waits is what may change or be withdrawn.
    bench = Bench(copier, mischief=mischief, stall_probability=0.8)
    bench.start()
    with pytest.raises(ProtocolError, match=(
            rf"^The accelerator broke the bus protocol in cycle \d+: {re.escape(rule)}$")):
        bench.simulator.run_until_irq(10_000)


def test_burst_across_4_kib_is_a_broken_protocol(copier):
    bench = Bench(copier, source=0x1_0f88)
    bench.start()
    with pytest.raises(ProtocolError, match=(
            r"^The accelerator broke the bus protocol in cycle \d+: AR burst of 16 beats at "
            r"0x10f88 crosses a 4 KiB boundary$")):
        bench.simulator.run_until_irq(10_000)


def test_refused_register_write_is_named(copier):
    bench = Bench(copier)
    with pytest.raises(ProtocolError, match=(
            r"^The accelerator broke the bus protocol in cycle \d+: write of register 0 was "
            r"refused$")):
        bench.simulator.write_register(0, 1)


def test_unanswered_register_write_is_named_and_a_reset_recovers(copier):
    bench = Bench(copier, mischief=Mischief.MUTE)
    with pytest.raises(ProtocolError, match=(
            r"^The accelerator broke the bus protocol in cycle \d+: write of register 0x8 was not "
            r"answered$")):
        bench.start()
    bench.simulator.reset()
    bench.simulator.write_register(LAST_BEAT, 3)
    assert bench.simulator.read_register(LAST_BEAT) == 3


def test_registers_work_with_random_delays_too(copier):
    bench = Bench(copier, stall_probability=0.5)
    for value in range(100):
        bench.simulator.write_register(SOURCE, value)
        assert bench.simulator.read_register(SOURCE) == value


def test_events_carry_engine_index_and_cycle(copier):
    bench = Bench(copier)
    cycles = bench.run()
    start, done, other = bench.simulator.events()
    assert start == SimulatorEvent(0, False, 7, start.cycle)
    assert done == SimulatorEvent(0, True, 7, done.cycle)
    assert other == SimulatorEvent(3, True, 9, done.cycle)
    assert cycles - 4 <= done.cycle - start.cycle <= cycles
    bench.simulator.clear_events()
    assert bench.simulator.events() == []


def test_interrupt_that_is_up_ends_a_run_at_once(copier):
    bench = Bench(copier)
    bench.run()
    cycle = bench.simulator.cycle
    assert bench.simulator.run_until_irq(1000) is RunStatus.IRQ
    assert bench.simulator.cycle == cycle


def test_run_advances_by_as_many_cycles(copier):
    bench = Bench(copier)
    cycle = bench.simulator.cycle
    bench.simulator.run(123)
    assert bench.simulator.cycle == cycle + 123
    assert bench.simulator.run_until_irq(77) is RunStatus.TIMEOUT
    assert bench.simulator.cycle == cycle + 200


def test_two_simulators_of_one_build_are_apart(copier):
    first, second = Bench(copier), Bench(copier, beats=8)
    first.run()
    assert second.copied == bytes(len(second.data))
    second.run()
    assert first.copied == first.data and second.copied == second.data


def test_memory_access_wrong_address(copier):
    simulator = Bench(copier).simulator
    simulator.write_memory(MEMORY_BYTES, b"")
    for access in (lambda: simulator.read_memory(MEMORY_BYTES - 1, 2),
                   lambda: simulator.write_memory(MEMORY_BYTES - 1, b"ab")):
        with pytest.raises(InputError, match=(
                r"^Memory access must lie within the 1048576 bytes of memory, not 2 bytes at "
                r"0xfffff$")):
            access()


def test_closed_simulator_is_named(copier):
    simulator = Bench(copier).simulator
    simulator.close()
    simulator.close()
    with pytest.raises(InputError, match=r"^The simulator is closed$"):
        simulator.run(1)


@pytest.mark.parametrize("field, value, message", [
    ("bytes", 0, "Memory bytes must be at least 1, not 0"),
    ("latency", 0, "Memory latency must be between 1 and 1048575 cycles, not 0"),
    ("bandwidth", 0.0, "Memory bandwidth must be between 0.001 and 2 beats per cycle, not 0.0"),
    ("stall_probability", 1.0, "Stall probability must be between 0 and 0.95, not 1.0"),
    ("seed", -1, "Seed must be between 0 and 2**64 - 1, not -1"),
    ("outstanding", 0, "Outstanding bursts must be between 1 and 64, not 0"),
])
def test_memory_model_wrong(field, value, message):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        MemoryModel(**{"bytes": MEMORY_BYTES, field: value})
