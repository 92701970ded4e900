"""A whole network on the whole accelerator's Verilog, with cocotbext-axi as host and memory; run by
``test_accelerator_bus.py``."""

import json
import logging
import os
import random
from pathlib import Path

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ClockCycles, RisingEdge, with_timeout
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam

FOLDER = Path(os.environ["PROGRAM"])


def pauses(seed, probability):
    rng = random.Random(seed)
    while True:
        yield rng.random() < probability


async def run(dut, probability):
    job = json.loads((FOLDER / "job.json").read_text())
    memory = (FOLDER / "memory.bin").read_bytes()
    expected = (FOLDER / "expected.bin").read_bytes()
    registers = job["registers"]

    logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.WARNING)
    cocotb.start_soon(Clock(dut.clk, 10, "ns").start())
    host = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi"), dut.clk, dut.rst)
    ram = AxiRam(AxiBus.from_prefix(dut, "m_axi"), dut.clk, dut.rst, size=len(memory))
    ram.write(0, memory)
    if probability:
        channels = (ram.read_if.ar_channel, ram.read_if.r_channel, ram.write_if.aw_channel,
                    ram.write_if.w_channel, ram.write_if.b_channel)
        for seed, channel in enumerate(channels):
            channel.set_pause_generator(pauses(seed, probability))
    dut.rst.value = 1
    await ClockCycles(dut.clk, 4)
    dut.rst.value = 0
    await ClockCycles(dut.clk, 2)

    assert await host.read_dword(registers["ID"]) == job["id"]
    for name, value in (("COMMAND_ADDR", job["address"]), ("COMMAND_ADDRH", 0),
                        ("COMMAND_COUNT", job["count"]), ("IRQ_ENABLE", 1), ("CONTROL", 1)):
        await host.write_dword(registers[name], value)
    if not dut.irq.value:
        await with_timeout(RisingEdge(dut.irq), 2_000_000, "ns")
    assert await host.read_dword(registers["STATUS"]) == job["done"]
    assert await host.read_dword(registers["ERROR"]) == 0
    assert await host.read_dword(registers["COMPLETED"]) == job["count"]
    assert ram.read(job["output"], len(expected)) == expected


@cocotb.test()
async def network_runs_on_a_fast_memory(dut):
    await run(dut, 0)


@cocotb.test()
async def network_runs_on_a_stalling_memory(dut):
    await run(dut, 0.4)
