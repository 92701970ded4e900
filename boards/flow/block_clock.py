"""The clock of a component by itself: ``python -m weft.boards.flow.block_clock array``.

Inputs come from shift registers and outputs go into a tree of registers, so that a component needs
two pins, whatever its ports, and none of its paths ends at a pin.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from amaranth import *
from amaranth.back import rtlil
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from weft.boards.ecp5.floorplan import ECP5_SITES
from weft.boards.ecp5.multiplier import ECP5Primitives
from weft.boards.family import KEEP_FLAGS
from weft.boards.sdram.chip import MT48LC16M16_CLASS, SdramTiming
from weft.boards.sdram.memory import SdramMemory
from weft.hw.bus.axi import memory_port
from weft.hw.control.dispatch import Dispatcher
from weft.hw.control.fetch import CommandFetch
from weft.hw.core import Core
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.presets import load_config
from weft.hw.matrix.accumulators import Accumulators
from weft.hw.matrix.drain import Drain
from weft.hw.matrix.engine import MatrixEngine
from weft.hw.matrix.pixel_streamer import PixelStreamer
from weft.hw.matrix.sequencer import StepSequencer
from weft.hw.matrix.systolic_array import SystolicArray
from weft.hw.memory.activation import ActivationMemory
from weft.hw.requantize.requantizer import Requantizer
from weft.hw.transfer.load import LoadEngine
from weft.hw.transfer.store import StoreEngine
from weft.hw.vector.engine import VectorEngine

from .timing import read_timing
from .tools import find_tool, run_tool, run_yosys

__all__ = ["COMPONENTS", "Harness"]


COMPONENTS: dict[str, Callable[[AcceleratorConfig], wiring.Component]] = {
    "array": lambda config: SystolicArray(config.array),
    "accumulators": Accumulators,
    "activation_memory": lambda config: ActivationMemory(config, readers=3, writers=3),
    "requantizer": Requantizer,
    "drain": lambda config: Drain(config, release_to_write=32),
    "streamer": PixelStreamer,
    "sequencer": StepSequencer,
    "matrix": MatrixEngine,
    "vector": VectorEngine,
    "load": LoadEngine,
    "store": StoreEngine,
    "fetch": CommandFetch,
    "dispatch": Dispatcher,
    "core": Core,
    "sdram": lambda config: SdramMemory(SdramTiming(MT48LC16M16_CLASS, 100), **memory_port(config)),
}
"""What can be measured."""

_DEVICES = {"25F": "--25k", "45F": "--45k", "85F": "--85k"}


class Harness(wiring.Component):
    """``component`` between registers, with one input and one output."""

    i: In(1)
    o: Out(1)

    def __init__(self, component: wiring.Component):
        self._component = component
        super().__init__()

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.component = self._component
        last: Value = self.i
        sinks: list[Signal] = []
        for path, member, port in self._component.signature.flatten(self._component):
            port, name = Value.cast(port), "_".join(map(str, path))
            if member.flow == In:
                # No bit is another one's of a cycle ago, or synthesis would find that out and take
                # registers of the component for it.
                line = Signal(len(port) + 1, name=f"line_{name}", reset_less=True)
                source = Signal(len(port), name=f"source_{name}", reset_less=True)
                m.d.sync += [line.eq(Cat(last, line) ^ Cat(0, last, line)), source.eq(line)]
                m.d.comb += port.eq(source)
                last = line[-1]
            else:
                sink = Signal(len(port), name=f"sink_{name}", reset_less=True)
                m.d.sync += sink.eq(port)
                sinks.append(sink)
        outputs: Value = Cat(sinks)
        while len(outputs) > 1:
            level = Signal(-(-len(outputs) // 4), reset_less=True)
            m.d.sync += level.eq(Cat(outputs[4 * k:4 * k + 4].xor()
                                     for k in range(len(level))))
            outputs = level
        m.d.comb += self.o.eq(outputs)
        return m


def _platform(config: AcceleratorConfig, arguments: argparse.Namespace) -> Any:
    if arguments.no_blocks:
        return None
    platform = ECP5Primitives()
    platform.assign_multipliers(config, ECP5_SITES[arguments.device])
    if arguments.no_floorplan:
        platform.floorplan = None
    return platform


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="python -m weft.boards.flow.block_clock",
                                     description=__doc__)
    parser.add_argument("component", choices=COMPONENTS)
    parser.add_argument("--config", default="base", help="preset or TOML file")
    parser.add_argument("--device", choices=_DEVICES, default="85F", help="ECP5, speed grade 6")
    parser.add_argument("--no-floorplan", action="store_true", help="let the placer choose")
    parser.add_argument("--no-blocks", action="store_true",
                        help="leave multipliers and memories to synthesis")
    parser.add_argument("--no-fip", action="store_true", help="a multiplier for each product")
    parser.add_argument("--seeds", default="1", help="seeds of the placer, as in 1,2,3")
    parser.add_argument("-o", metavar="FOLDER", type=Path, help="keep all files there")
    arguments = parser.parse_args()

    config = load_config(arguments.config)
    if arguments.no_fip:
        config = config.replace(fip=False)
    folder = arguments.o or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    platform = _platform(config, arguments)
    harness = Harness(COMPONENTS[arguments.component](config))
    design = rtlil.convert(harness, name="top", platform=platform, emit_src=False)
    (folder / "top.lpf").write_text("", encoding="utf-8")
    if platform is not None:
        for role, counts in platform.multiplier_report.items():
            print(f"{role}: " + ", ".join(f"{count} {what}" for what, count in counts.items()))

    start = time.monotonic()
    nodsp = "" if platform is None else "-nodsp "
    run_yosys(design, f"{KEEP_FLAGS}; synth_ecp5 {nodsp}-top top -json top.json", folder=folder)
    print(f"synthesis: {time.monotonic() - start:.0f} s")
    for seed in arguments.seeds.split(","):
        start = time.monotonic()
        report = folder / f"seed{seed}.json"
        run_tool([find_tool("nextpnr-ecp5"), _DEVICES[arguments.device], "--package", "CABGA381",
                  "--speed", "6", "--router", "router2", "--freq", "200", "--timing-allow-fail",
                  "--lpf", "top.lpf", "--lpf-allow-unconstrained", "--json", "top.json",
                  "--report", report.name, "--seed", seed, "-q"],
                 folder=folder, log=folder / f"seed{seed}.log")
        timing = read_timing(report)
        print(f"seed {seed}: {timing.clock_mhz:.1f} MHz, {time.monotonic() - start:.0f} s, "
              + ", ".join(f"{timing.utilization[kind]} {kind}" for kind in (
                  "TRELLIS_COMB", "TRELLIS_FF", "MULT18X18D", "DP16KD")), flush=True)
        print(json.dumps(timing.path.to_dict(), indent=1))


if __name__ == "__main__":
    main()
