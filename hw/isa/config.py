"""The one configuration of an accelerator, shared by RTL, compiler, simulators and builds."""

import dataclasses
import json
from dataclasses import dataclass
from functools import cached_property
from math import lcm
from typing import Any

from weft.errors import WeftError

from .array import ArrayShape
from .element import ElementType
from .limits import (
    LINE_KERNELS,
    LOCAL_ADDRESSES,
    MOST_NORMALIZED,
    MOST_ROW_UNITS,
    NORMALIZED_LANES,
    PAGE_BYTES,
    TABLE_ENTRIES,
    WIDER_OPERANDS,
)

__all__ = ["SEQUENTIAL", "AcceleratorConfig", "ConfigError"]


class ConfigError(WeftError, ValueError):
    """A configuration that cannot be built; the message names the field, the rule and the value."""


def _is_power_of_2(value: int) -> bool:
    return value > 0 and value & (value - 1) == 0


def _power_of_2_at_least(value: int) -> int:
    return 1 << (value - 1).bit_length()


_NAME_LENGTH = 64  # of a name that becomes part of file names

# Fields that an error names by more than their words.
_NOUNS = {"axi_data_width": "AXI data width", "axi_addr_width": "AXI address width",
          "axi_burst_beats": "AXI burst beats", "axi_outstanding": "AXI outstanding bursts"}


def _noun(field: str) -> str:
    """How an error names a field."""
    return _NOUNS.get(field, field.replace("_", " ").capitalize())


SEQUENTIAL: dict[str, Any] = {
    "rows": 4, "cols": 4, "fip": False, "accumulator_width": 32, "activation_banks": 1,
    "requant_lanes": 1, "axi_data_width": 32, "vector_taps": 0, "fixed_point": False,
    "counters": False, "drain_lookup": False, "products": False, "softmax": False,
    "normalize_channels": 0,
}
"""What a sequential accelerator needs: a word, a weight row and a beat are of one size."""


@dataclass(frozen=True, kw_only=True)
class AcceleratorConfig:
    """What a user chooses about an accelerator; everything else is derived from it.

    Parameters
    ----------
    name : :class:`str`
        Name shown in reports and used for the Verilog top module. An identifier.
    rows : :class:`int`
        Input channels taken per cycle, and lanes of an activation word. 2..64, even with ``fip``.
    cols : :class:`int`
        Output channels per cycle. 2..64.
    fip : :class:`bool`
        Use the fast inner product: one multiplier for two multiply-accumulates.
    activation_width, weight_width : :class:`int`
        Bits of a signed operand. So far 8: the array takes others, what is around it does not.
    accumulator_width : :class:`int`
        Bits of an accumulator, 20..32. The compiler rejects layers that could exceed it.
    activation_bytes : :class:`int`
        On-chip activation memory in bytes; a word takes ``word_data_bytes``.
    activation_banks : :class:`int`
        Banks of the activation memory, interleaved by word. A power of 2, 1..16.
    weight_bytes : :class:`int`
        On-chip weight memory in bytes.
    accumulator_pixels : :class:`int`
        Pixels in each of the two accumulator banks. A power of 2, 16..4096.
    parameter_channels : :class:`int`
        Output channels whose bias and scale are held on chip at a time.
    requant_lanes : :class:`int`
        Output channels requantized per cycle. Divides ``rows`` and ``cols``.
    axi_data_width : :class:`int`
        Bits of the memory port: 32, 64, 128, 256 or 512.
    axi_addr_width : :class:`int`
        Bits of a memory address, 16..64.
    axi_burst_beats : :class:`int`
        Longest burst. A power of 2, 1..256.
    axi_outstanding : :class:`int`
        Read bursts in flight at a time for each reader, 1..16.
    queue_depth : :class:`int`
        Commands waiting in front of each engine. A power of 2, 1..64.
    vector_taps : :class:`int`
        Taps of a window that the vector engine multiplies per cycle, 1..10: multipliers per lane.
        0 leaves out the vector engine and its memories, and only networks of convolutions and
        fully connected layers can be compiled: it saves a third of the logic of a small array.
    vector_lines : :class:`int`
        Columns of which the vector engine keeps the last four words, so that a window of 3x3 or 5x5
        reads only what is new in each of its rows: 0, or a power of 2, 16..4096. It takes a memory
        of ``4 * vector_lines`` words, and at least 6 ``vector_taps``. An engine that has lines also
        reads both words of a sum or a product in a cycle, through a second port.
    vector_entries : :class:`int`
        Weight entries of the vector engine, 8..65536; an entry holds ``vector_taps * rows``
        weights.
    vector_tables : :class:`int`
        Look-up tables held on chip at a time, 1..256.
    drain_lookup : :class:`bool`
        The results of a convolution can go through one of these tables on their way to the
        activation memory, so that a function behind it takes no time: it takes a copy of the tables
        for each of ``requant_lanes``.
    fixed_point : :class:`bool`
        Results may also be rounded as TensorFlow Lite does: for each lane of requantization, of
        both engines, some 500 LUTs and 400 flip-flops more.
    products : :class:`bool`
        Products of two activations, as attention has them: the command TURN makes weights of words
        of the activation memory. It takes ``cols`` equal to ``rows``, a register for each of
        ``rows x rows`` bytes, and a multiplier for each column.
    softmax : :class:`bool`
        Softmax of rows of channels, between the products of attention: the command SOFTMAX. It
        needs ``products``, and takes some 4,000 LUTs and 2,200 flip-flops.
    normalize_channels : :class:`int`
        Channels of the longest row whose layer normalization can be computed, by the command
        NORMALIZE: 0 leaves it out; otherwise a multiple of ``rows`` and 8, up to 4096. It needs
        ``products``.
    row_units : :class:`int`
        Copies of the arithmetic of SOFTMAX and NORMALIZE, each of which takes a lane of a row in a
        cycle. A power of 2, 1..16, and at most ``rows``; more than one needs either of them.
    counters : :class:`bool`
        Performance counters that say where the cycles went. Without them there is only the number
        of cycles, and the others read as zero; it saves some 900 flip-flops.
    sequential : :class:`bool`
        Execute one command after the other on a single row of multiply-accumulate units, instead
        of side by side and on an array: a tenth of the speed in a quarter of the logic. It needs
        the values of :data:`SEQUENTIAL`, and has no use for ``accumulator_pixels``,
        ``axi_burst_beats``, ``axi_outstanding`` and ``queue_depth``.

    Raises
    ------
    ConfigError
        If a value is of the wrong type, out of its range, or clashes with another.
    """

    name: str = "custom"
    rows: int
    cols: int
    fip: bool = True
    activation_width: int = 8
    weight_width: int = 8
    accumulator_width: int = 32
    activation_bytes: int
    activation_banks: int = 4
    weight_bytes: int
    accumulator_pixels: int = 256
    parameter_channels: int = 1024
    requant_lanes: int
    axi_data_width: int = 64
    axi_addr_width: int = 32
    axi_burst_beats: int = 16
    axi_outstanding: int = 4
    queue_depth: int = 4
    vector_taps: int = 3
    vector_lines: int = 0
    vector_entries: int = 512
    vector_tables: int = 4
    drain_lookup: bool = True
    fixed_point: bool = False
    products: bool = False
    softmax: bool = False
    normalize_channels: int = 0
    row_units: int = 1
    counters: bool = True
    sequential: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name.isidentifier():
            raise ConfigError(f"Name must be an identifier, not {self.name!r}")
        if len(self.name) > _NAME_LENGTH:
            raise ConfigError(f"Name must have at most {_NAME_LENGTH} characters, "
                              f"not {len(self.name)}")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is bool and not isinstance(value, bool):
                raise ConfigError(f"{_noun(field.name)} must be true or false, not {value!r}")
            if field.type is int and (not isinstance(value, int) or isinstance(value, bool)):
                raise ConfigError(f"{_noun(field.name)} must be an integer, not {value!r}")

        self._check_range("rows", 2, 64)
        self._check_range("cols", 2, 64)
        self._check_operands()
        try:
            _ = self.array
        except ValueError as error:
            raise ConfigError(str(error)) from None
        if self.products and self.cols != self.rows:
            raise ConfigError(f"Cols must be equal to rows ({self.rows}) when products is on, "
                              f"not {self.cols}")
        self._check_range("accumulator_width", 20, 32)
        if self.accumulator_width < self.psum_width:
            raise ConfigError(f"Accumulator width must be at least {self.psum_width} (a partial "
                              f"sum of {self.rows} rows), not {self.accumulator_width}")
        self._check_power_of_2("activation_banks", 1, 16)
        self._check_power_of_2("accumulator_pixels", 16, 4096)
        self._check_range("requant_lanes", 1, 64)
        if self.rows % self.requant_lanes or self.cols % self.requant_lanes:
            raise ConfigError(f"Requant lanes must divide both rows ({self.rows}) and cols "
                              f"({self.cols}), not {self.requant_lanes}")
        self._check_range("activation_bytes", 16 * self.word_data_bytes * self.activation_banks,
                          LOCAL_ADDRESSES)
        self._check_range("weight_bytes", 2 * self.weight_tile_rows * self.weight_row_data_bytes,
                          LOCAL_ADDRESSES)
        self._check_range("parameter_channels", 2 * self.cols, 1 << 16)
        if self.axi_data_width not in (32, 64, 128, 256, 512):
            raise ConfigError(f"AXI data width must be one of 32, 64, 128, 256, 512, "
                              f"not {self.axi_data_width}")
        self._check_range("axi_addr_width", 16, 64)
        self._check_power_of_2("axi_burst_beats", 1, 256)
        if self.axi_burst_beats * self.axi_bytes > PAGE_BYTES:
            most = PAGE_BYTES // self.axi_bytes
            raise ConfigError(f"AXI burst beats must be at most {most} at a data width of "
                              f"{self.axi_data_width} (a burst may not cross 4 KiB), "
                              f"not {self.axi_burst_beats}")
        self._check_range("axi_outstanding", 1, 16)
        self._check_power_of_2("queue_depth", 1, 64)
        self._check_range("vector_taps", 0, 10)
        if self.vector_lines:
            self._check_power_of_2("vector_lines", 16, 4096)
            if self.vector_taps <= max(LINE_KERNELS):
                raise ConfigError(f"Vector taps must be more than {max(LINE_KERNELS)} when vector "
                                  f"lines are kept, not {self.vector_taps}")
        self._check_range("vector_entries", 8, 1 << 16)
        self._check_range("vector_tables", 1, 256)
        for name, needed in SEQUENTIAL.items() if self.sequential else ():
            if getattr(self, name) != needed:
                raise ConfigError(f"{_noun(name)} must be {needed} in a sequential accelerator, "
                                  f"not {getattr(self, name)}")
        self._check_rows()

    def _check_rows(self) -> None:
        """What SOFTMAX and NORMALIZE need."""
        if (self.softmax or self.normalize_channels) and not self.products:
            switch = "softmax is on" if self.softmax else "channels are normalized"
            raise ConfigError(f"Products must be true when {switch}, not False")
        if self.normalize_channels:
            step = self.normalize_step
            self._check_range("normalize_channels", step, MOST_NORMALIZED)
            if self.normalize_channels % step:
                raise ConfigError(f"Normalize channels must be a multiple of {step}, not "
                                  f"{self.normalize_channels}")
        self._check_power_of_2("row_units", 1, MOST_ROW_UNITS)
        if self.row_units > self.rows:
            raise ConfigError(f"Row units must be at most rows ({self.rows}), not {self.row_units}")
        if self.row_units > 1 and not (self.softmax or self.normalize_channels):
            raise ConfigError(f"Row units must be 1 without softmax and normalize channels, not "
                              f"{self.row_units}")

    def _check_operands(self) -> None:
        for field, need in WIDER_OPERANDS.items():
            if getattr(self, field) != 8:
                raise ConfigError(f"{_noun(field)} must be 8, not {getattr(self, field)}: another "
                                  f"would need {need}")

    def _check_range(self, field: str, low: int, high: int) -> None:
        value = getattr(self, field)
        if not low <= value <= high:
            raise ConfigError(f"{_noun(field)} must be between {low} and {high}, not {value}")

    def _check_power_of_2(self, field: str, low: int, high: int) -> None:
        value = getattr(self, field)
        if not low <= value <= high or not _is_power_of_2(value):
            raise ConfigError(f"{_noun(field)} must be a power of 2 between {low} and {high}, "
                              f"not {value}")

    @property
    def normalize_step(self) -> int:
        """What ``normalize_channels`` is a multiple of."""
        return lcm(self.rows, NORMALIZED_LANES)

    # Array ----------------------------------------------------------------------------------

    @cached_property
    def array(self) -> ArrayShape:
        """The array and its operands."""
        return ArrayShape(rows=self.rows, cols=self.cols, fip=self.fip,
                          activation=ElementType(self.activation_width),
                          weight=ElementType(self.weight_width), products=self.products)

    @property
    def activation_type(self) -> ElementType:
        """The element of an activation word."""
        return self.array.activation

    @property
    def weight_type(self) -> ElementType:
        """The element of a weight row, and of a weight entry of the vector engine."""
        return self.array.weight

    @property
    def pe_weights(self) -> int:
        """Weights held by one PE: 2 with FIP, else 1."""
        return self.array.pe_weights

    @property
    def pe_rows(self) -> int:
        """Rows of PEs: ``rows / 2`` with FIP, else ``rows``."""
        return self.array.pe_rows

    @property
    def array_columns(self) -> int:
        """Columns of PEs, the one whose sums are taken off included."""
        return self.array.columns

    @property
    def multipliers(self) -> int:
        """Multipliers of the array, those of the column that corrects included."""
        return self.cols if self.sequential else self.pe_rows * self.array_columns

    @property
    def macs_per_cycle(self) -> int:
        """Multiply-accumulates per cycle, at most."""
        return self.cols if self.sequential else self.rows * self.cols

    @property
    def rate_text(self) -> str:
        """The same in words."""
        macs = f"{self.cols}" if self.sequential else f"{self.rows} x {self.cols}"
        return f"{macs} MACs per cycle"

    def utilization(self, macs: int, cycles: int) -> float:
        """``macs / (cycles * macs_per_cycle)``: the share of the capacity that is used; 0 without
        cycles."""
        return macs / (cycles * self.macs_per_cycle) if cycles else 0.0

    @property
    def psum_width(self) -> int:
        """Bits of the partial sum that leaves a column of PEs."""
        return self.array.psum_width

    # Memories --------------------------------------------------------------------------------
    # `*_lanes` counts elements. `*_data_bytes` is what they take, and what is stored on chip;
    # `*_bytes` is what a unit takes in external memory, so that a beat never straddles two units in
    # an odd way: a power of 2, or whole beats.

    @property
    def word_lanes(self) -> int:
        """Lanes of an activation word: consecutive channels of one pixel."""
        return self.rows

    @cached_property
    def word_data_bytes(self) -> int:
        """Bytes of an activation word on chip."""
        return self.word_lanes * self.activation_type.bytes

    @cached_property
    def word_bytes(self) -> int:
        """Bytes of an activation word in external memory."""
        return _power_of_2_at_least(self.word_data_bytes)

    @property
    def activation_depth(self) -> int:
        """Words of the activation memory, a multiple of the number of banks."""
        words = self.activation_bytes // self.word_data_bytes
        return words - words % self.activation_banks

    @property
    def weight_row_lanes(self) -> int:
        """Weights of one row of PEs, shifted into the array in one cycle."""
        return self.array.weight_row_lanes

    @property
    def weight_row_data_bytes(self) -> int:
        """Bytes of a weight row on chip."""
        return self.weight_row_lanes * self.weight_type.bytes

    @property
    def weight_row_bytes(self) -> int:
        """Bytes of a weight row in external memory."""
        return _power_of_2_at_least(self.weight_row_data_bytes)

    @property
    def weight_tile_rows(self) -> int:
        """Weight rows of one ``rows x cols`` weight tile."""
        return self.pe_rows

    @property
    def weight_depth(self) -> int:
        """Weight rows that the weight memory holds."""
        return self.weight_bytes // self.weight_row_data_bytes

    @property
    def requant_groups(self) -> int:
        """Cycles to requantize all columns of one pixel."""
        return self.cols // self.requant_lanes

    @property
    def word_slots(self) -> int:
        """Parts of a word that are requantized in one cycle."""
        return self.rows // self.requant_lanes

    @property
    def parameter_entry_data_bytes(self) -> int:
        """Bytes of a parameter entry on chip: bias and scale of ``requant_lanes`` channels."""
        return self.requant_lanes * 8

    @property
    def parameter_entry_bytes(self) -> int:
        """Bytes of a parameter entry in external memory."""
        return _power_of_2_at_least(self.parameter_entry_data_bytes)

    @property
    def parameter_depth(self) -> int:
        """Parameter entries held on chip."""
        return self.parameter_channels // self.requant_lanes

    @property
    def vector(self) -> bool:
        """Whether there is a vector engine."""
        return self.vector_taps > 0

    @property
    def vector_pairs(self) -> bool:
        """Whether the vector engine reads the words of two operands in a cycle: with
        ``vector_lines``, whose taps are enough to multiply both at a time."""
        return self.vector_lines > 0

    @property
    def vector_entry_lanes(self) -> int:
        """Weights of an entry of the vector engine: ``vector_taps`` taps of ``rows`` lanes."""
        return self.vector_taps * self.rows

    @property
    def vector_entry_data_bytes(self) -> int:
        """Bytes of such an entry on chip."""
        return self.vector_entry_lanes * self.weight_type.bytes

    @property
    def vector_entry_bytes(self) -> int:
        """Bytes of such an entry in external memory: whole beats, if it is larger than one."""
        data = self.vector_entry_data_bytes
        if data < self.axi_bytes:
            return _power_of_2_at_least(data)
        return data + -data % self.axi_bytes

    @property
    def vector_groups(self) -> int:
        """Parameter entries of a channel block, and cycles to requantize a word of one."""
        return self.word_slots

    @property
    def vector_parameter_depth(self) -> int:
        """Parameter entries of the vector engine, as many as the matrix engine has."""
        return self.parameter_depth

    @property
    def drain_tables(self) -> int:
        """Look-up tables that results of the matrix engine can go through."""
        return self.vector_tables if self.drain_lookup else 0

    @property
    def drain_lane_tables(self) -> bool:
        """Whether these may have another entry for each lane: where results come as whole words."""
        return self.drain_lookup and self.vector and self.requant_lanes == self.rows

    @property
    def vector_table_bytes(self) -> int:
        """Bytes of all look-up tables."""
        return TABLE_ENTRIES * self.vector_tables

    @property
    def axi_bytes(self) -> int:
        """Bytes of a beat of the memory port."""
        return self.axi_data_width // 8

    @property
    def axi_readers(self) -> int:
        """Readers that share the memory port: command fetch and loads. The sequential core does
        one after the other."""
        return 1 if self.sequential else 2

    # Text forms ------------------------------------------------------------------------------

    def to_dict(self) -> dict[str, Any]:
        """The chosen values, as a JSON-ready dictionary."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """The chosen values as JSON text."""
        return json.dumps(self.to_dict(), indent=2)

    def replace(self, **changes: Any) -> "AcceleratorConfig":
        """A copy with some values changed, validated again."""
        return dataclasses.replace(self, **changes)
