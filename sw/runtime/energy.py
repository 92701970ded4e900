"""Energy of what was done: counts of events times a table of energies.

The absolute value is an estimate, as the table is that of one process of long ago; it is for the
comparison of two configurations, or of two layers. Only what happens counts: neither leakage nor
the clock.
"""

import tomllib
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from weft.compiler.activity import Activity
from weft.errors import InputError
from weft.hw.isa.commands import Memory
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.memories import MemoryGeometry, memories

__all__ = ["EnergyTable", "energy_pj", "load_energy_table"]


_FILE_CHARACTERS = 1 << 16


@dataclass(frozen=True, kw_only=True)
class EnergyTable:
    """Energies in picojoules; ``energy.toml`` has the sources of the default.

    Attributes
    ----------
    product, accumulation, requantization : :class:`float`
        Of a product of 8 bits with its sum, of a sum in the accumulators, of a scaled value.
    memory_byte : :class:`float`
        Of a byte read or written in a memory of ``memory_bytes`` bytes. One of n times the size
        takes ``n ** memory_exponent`` times as much.
    dram_byte : :class:`float`
        Of a byte that passes the memory port.
    """

    product: float
    accumulation: float
    requantization: float
    memory_byte: float
    memory_bytes: float
    memory_exponent: float
    dram_byte: float

    def memory(self, geometry: MemoryGeometry, banks: int = 1) -> float:
        """Of a unit read or written."""
        size = geometry.depth * geometry.unit_data_bytes / banks
        return (geometry.unit_data_bytes * self.memory_byte
                * float((size / self.memory_bytes) ** self.memory_exponent))


def load_energy_table(path: Path | None = None) -> EnergyTable:
    """The table in a TOML file, in which fields may be missing; by default the one with Weft.

    Raises
    ------
    InputError
        If the file is none, or has an unknown field or one that is no positive number.
    """
    values = _default()
    if path is None:
        return EnergyTable(**values)
    try:
        with path.open(encoding="utf-8") as file:
            given = tomllib.loads(file.read(_FILE_CHARACTERS))
    except OSError as error:
        raise InputError(f"Energy table {path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"Energy table {path} is not TOML: {error}") from None
    for name, value in given.items():
        if name not in values:
            raise InputError(f"Energy table {path} has an unknown field {name!r}; the fields are "
                             f"{', '.join(each.name for each in fields(EnergyTable))}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
            raise InputError(f"Energy table {path} must have a number from 0 to 1e12 for {name}, "
                             f"not {value!r}")
    return EnergyTable(**{**values, **given})


@cache
def _default() -> dict[str, Any]:
    return tomllib.loads(files("weft.runtime").joinpath("energy.toml").read_text(encoding="utf-8"))


def energy_pj(activity: Activity, config: AcceleratorConfig, table: EnergyTable) \
        -> dict[str, float]:
    """Energy of ``activity`` in picojoules, by what takes it: ``array``, ``vector``,
    ``accumulators``, ``requantize``, ``activation``, ``weight``, ``other memories`` and
    ``dram``."""
    sizes = memories(config)

    def memory(which: Memory, accesses: int, banks: int = 1) -> float:
        return accesses * table.memory(sizes[which], banks) if which in sizes else 0.0

    accumulators = MemoryGeometry(config.accumulator_pixels, 4, 4)
    sums = activity.accumulator_reads + activity.accumulator_writes
    return {
        "array": activity.products * table.product,
        "vector": activity.vector_products * table.product,
        "accumulators": (sums * table.memory(accumulators)
                         + activity.accumulator_writes * table.accumulation),
        "requantize": activity.requantized * table.requantization,
        "activation": memory(Memory.ACTIVATION,
                             activity.activation_reads + activity.activation_writes,
                             config.activation_banks),
        "weight": memory(Memory.WEIGHT, activity.weight_reads + activity.weight_writes),
        "other memories": (
            memory(Memory.PARAMETER, activity.parameter_reads + activity.parameter_writes)
            + memory(Memory.VECTOR_WEIGHT,
                     activity.vector_weight_reads + activity.vector_weight_writes)
            + memory(Memory.TABLE, activity.table_reads + activity.table_writes)),
        "dram": ((activity.read_beats + activity.write_beats) * config.axi_bytes
                 * table.dram_byte),
    }
