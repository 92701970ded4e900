"""The activation memory against a numpy array, with all ports busy."""

import random

import pytest
from stream_bench import make_simulator, random_stall, stream_put

from weft.hw.isa.presets import PRESETS
from weft.hw.memory.activation import ActivationMemory


def small_config(banks):
    return PRESETS["tiny"].replace(activation_banks=banks, activation_bytes=4 * 64 * banks)


@pytest.mark.parametrize("banks", [1, 2, 4])
def test_all_ports_together_keep_every_lane(banks):
    config = small_config(banks)
    ports = 1 + banks % 4  # 2, 3 and 1
    memory = ActivationMemory(config, readers=ports, writers=ports)
    rng = random.Random(banks)
    # Each writer has words of its own, each reader reads what was written before it began.
    share = config.activation_depth // ports
    content = [[rng.randrange(256) for _ in range(4)] for _ in range(config.activation_depth)]
    written = [0] * ports
    seen = [[] for _ in range(ports)]
    asked = [[] for _ in range(ports)]

    def writer(number):
        own = random.Random(10 + number)
        async def testbench(ctx):
            for address in range(number * share, (number + 1) * share):
                for mask in (0b0101, 0b1010):  # a word is written in parts
                    await random_stall(ctx, own, 0.3)
                    data = [value if mask >> lane & 1 else own.randrange(256)
                            for lane, value in enumerate(content[address])]
                    await stream_put(ctx, memory.write[number],
                                     {"address": address, "data": data, "mask": mask})
                await ctx.tick()  # on its way to the bank
                written[number] += 1
        return testbench

    def reader(number):
        own = random.Random(20 + number)
        async def testbench(ctx):
            while len(asked[number]) < 150:
                await random_stall(ctx, own, 0.3)
                space = [a for n in range(ports) for a in range(n * share, n * share + written[n])]
                if not space:
                    await ctx.tick()
                    continue
                address = own.choice(space)
                asked[number].append(address)
                await stream_put(ctx, memory.read_request[number], address)
            await ctx.tick().repeat(4)
        return testbench

    def watcher(number):
        async def testbench(ctx):
            accepted = []
            async for _clk, _rst, valid, ready, answer, word in ctx.tick().sample(
                    memory.read_request[number].valid, memory.read_request[number].ready,
                    memory.read_valid[number], memory.read_data[number]):
                if 0 < number == ports - 1:  # the last one tries again what was refused
                    if accepted:
                        accepted[-1] &= ready
                    accepted.append(valid | (1 - ready))
                else:
                    accepted.append(valid & ready)
                assert answer == (len(accepted) > memory.LATENCY
                                  and accepted[-1 - memory.LATENCY])
                if answer:
                    seen[number].append(list(word))
        return testbench

    sim = make_simulator(memory)
    for number in range(ports):
        sim.add_testbench(writer(number))
        sim.add_testbench(reader(number))
        sim.add_testbench(watcher(number), background=True)
    sim.run()
    for number in range(ports):
        assert seen[number] == [content[address] for address in asked[number]]


def test_the_first_port_is_never_refused_and_the_last_one_tries_again():
    memory = ActivationMemory(small_config(2), readers=3, writers=2)
    rng = random.Random(5)

    async def testbench(ctx):
        again = None  # what was refused of the last port
        for _ in range(200):
            addresses = [rng.randrange(8) for _ in range(3)]
            valids = [rng.random() < 0.7 for _ in range(3)]
            for port, address, valid in zip(memory.read_request, addresses, valids, strict=True):
                ctx.set(port.payload, address)
                ctx.set(port.valid, valid)
            await ctx.delay(1e-7)
            clash = valids[0] and (addresses[0] - addresses[1]) % 2 == 0
            assert [ctx.get(port.ready) for port in memory.read_request] == \
                [1, not clash, again is None]
            if again is None and valids[2]:
                again = addresses[2]
            if again is not None and not any(valids[other] and (addresses[other] - again) % 2 == 0
                                             for other in range(2)):
                again = None
            await ctx.tick()

    sim = make_simulator(memory)
    sim.add_testbench(testbench)
    sim.run()


def test_the_last_writer_waits_for_what_was_written_in_the_cycle_before():
    memory = ActivationMemory(small_config(2), readers=1, writers=3)
    rng = random.Random(6)

    async def testbench(ctx):
        taken = set()  # banks
        for _ in range(200):
            banks  = [rng.randrange(2) for _ in range(3)]
            valids = [rng.random() < 0.7 for _ in range(3)]
            for port, bank, valid in zip(memory.write, banks, valids, strict=True):
                ctx.set(port.p.address, 2 * rng.randrange(4) + bank)
                ctx.set(port.valid, valid)
            await ctx.delay(1e-7)
            clash = valids[0] and banks[0] == banks[1]
            assert [ctx.get(port.ready) for port in memory.write] == \
                [1, not clash, banks[2] not in taken]
            taken = {bank for bank, valid in zip(banks[:2], valids[:2], strict=True) if valid}
            await ctx.tick()

    sim = make_simulator(memory)
    sim.add_testbench(testbench)
    sim.run()


def test_ports_wrong():
    with pytest.raises(ValueError, match=r"^Readers and writers must be at least 1, not 0 and 2$"):
        ActivationMemory(PRESETS["tiny"], readers=0, writers=2)
