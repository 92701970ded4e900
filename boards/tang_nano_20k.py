"""Tang Nano 20K: a Gowin GW2AR-18 with 20 thousand LUTs, SDRAM in its package, six LEDs."""

from dataclasses import replace
from typing import Any

from weft.hw.isa.config import AcceleratorConfig

from .board import Board
from .gowin.family import GOWIN
from .icebreaker import ICEBREAKER
from .memory import OnChipMemory, SdramChipMemory
from .sdram.chip import GW2AR_SDRAM

__all__ = ["TANG_NANO_20K", "TANG_NANO_20K_SDRAM", "make_platform"]


TANG_NANO_20K = Board(
    name="tang-nano-20k", title="Tang Nano 20K with GW2AR-18", family=GOWIN,
    device="GW2AR-LV18QN88C8/I7",
    config=ICEBREAKER.config.replace(name="tang_nano_20k", activation_bytes=16 * 1024),
    clock_mhz=54, memory=OnChipMemory(size=64 * 1024),
    # How fast the debug adapter can be is not known.
    baud=115_200, loader="tangnano20k")

TANG_NANO_20K_SDRAM = replace(
    TANG_NANO_20K, name="tang-nano-20k-sdram", title="Tang Nano 20K with GW2AR-18 and its SDRAM",
    config=AcceleratorConfig(
        name="tang_nano_20k_sdram", rows=4, cols=4, requant_lanes=1, activation_bytes=16 * 1024,
        activation_banks=2, weight_bytes=12 * 1024, accumulator_pixels=256, parameter_channels=256,
        axi_addr_width=23, axi_burst_beats=8, axi_outstanding=2, queue_depth=1,
        vector_taps=0, accumulator_width=26, counters=False, drain_lookup=False),
    memory=SdramChipMemory(chip=GW2AR_SDRAM))


def make_platform(board: Board) -> Any:
    """Amaranth's platform of the board, with multiplier blocks for its configuration.

    amaranth_boards lacks it. The pins are those of LiteX-Boards; of the SDRAM, which has none, the
    pads that Project Apicula knows it to be bonded to.
    """
    from amaranth.build import Attrs, Clock, Pins, PinsN, Resource, Subsignal
    from amaranth.vendor import GowinPlatform

    from .gowin.primitives import GowinPrimitives

    base: Any = GowinPlatform
    standard = Attrs(IO_TYPE="LVCMOS33")

    class TangNano20kPlatform(GowinPrimitives, base):  # type: ignore[misc]  # as Amaranth has none
        part = "GW2AR-LV18QN88C8/I7"
        family = "GW2AR-18C"
        default_clk = "clk27"
        resources = (
            Resource("clk27", 0, Pins("4", dir="i"), Clock(27e6), standard),
            *(Resource("led", number, PinsN(pin, dir="o"), standard)
              for number, pin in enumerate(("15", "16", "17", "18", "19", "20"))),
            Resource("uart", 0, Subsignal("rx", Pins("70", dir="i")),
                     Subsignal("tx", Pins("69", dir="o")), standard),
            Resource("sdram", 0,
                     Subsignal("clk", Pins("IOR11B", dir="o")),
                     Subsignal("clk_en", Pins("IOL13A", dir="o")),
                     Subsignal("cs", PinsN("IOL14B", dir="o")),
                     Subsignal("ras", PinsN("IOL13B", dir="o")),
                     Subsignal("cas", PinsN("IOL14A", dir="o")),
                     Subsignal("we", PinsN("IOL12B", dir="o")),
                     Subsignal("ba", Pins("IOR13A IOR12A", dir="o")),
                     Subsignal("a", Pins("IOR14A IOR13B IOR14B IOR15A IOL16B IOL17B IOL16A IOL17A "
                                         "IOL15B IOL15A IOR12B", dir="o")),
                     Subsignal("dqm", Pins("IOL12A IOR11A IOL18A IOR15B", dir="o")),
                     Subsignal("dq", Pins("IOL3A IOL3B IOL8A IOL8B IOL9A IOL9B IOL11A IOL11B "
                                          "IOR9B IOR9A IOR5B IOR6A IOR5A IOR4B IOR3B IOR3A "
                                          "IOL39B IOL39A IOL35B IOL35A IOL30B IOL30A IOL20A IOL18B "
                                          "IOR17A IOR16A IOR16B IOR17B IOR18A IOR18B IOR44A IOR44B",
                                          dir="io")),
                     standard),
        )
        connectors = ()

    platform = TangNano20kPlatform()
    platform.reserve_blocks(board.config, board.capacity.multipliers)
    return platform
