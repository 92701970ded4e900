"""iCEBreaker: a Lattice iCE40 UP5K with 5,280 logic cells, USB serial, two LEDs."""

from typing import Any

from weft.hw.isa.config import AcceleratorConfig

from .board import Board
from .ice40.family import ICE40
from .memory import OnChipMemory

__all__ = ["ICEBREAKER", "make_platform"]


# Two of the four large memories are the activation memory, the others the staging memory.
ICEBREAKER = Board(
    name="icebreaker", title="iCEBreaker with iCE40UP5K", family=ICE40, device="iCE40UP5K",
    config=AcceleratorConfig(
        name="icebreaker", sequential=True, rows=4, cols=4, fip=False, requant_lanes=1,
        activation_bytes=64 * 1024, activation_banks=1, weight_bytes=8 * 1024,
        parameter_channels=64, axi_data_width=32, axi_addr_width=16, vector_taps=0,
        drain_lookup=False, counters=False),
    clock_mhz=24, memory=OnChipMemory(size=64 * 1024, single_port=True), baud=3_000_000,
    loader="ice40_generic")


def make_platform(board: Board) -> Any:
    """Amaranth's platform of the board: pins and package, and blocks for multipliers and memories
    of its configuration."""
    from amaranth_boards.icebreaker import ICEBreakerPlatform

    from weft.boards.ice40.primitives import ICE40Primitives, array_halves

    base: Any = ICEBreakerPlatform

    class Platform(ICE40Primitives, base):  # type: ignore[misc]  # amaranth_boards has no types
        multiplier_blocks = 8
        large_memories = 4

    platform = Platform()
    platform.array_halves = 0 if board.config.sequential else array_halves(board.config.array)
    return platform
