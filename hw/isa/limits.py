"""Limits of the command set and of the bus: what more than one part has to agree on."""

__all__ = ["LINE_KERNELS", "LINE_QUARTERS", "LINE_WORDS", "LOCAL_ADDRESSES", "MAX_COMMANDS",
           "MOST_NORMALIZED", "MOST_ROW_UNITS", "NORMALIZED_LANES", "PAGE_BYTES", "TABLE_ENTRIES",
           "WIDER_OPERANDS", "WINDOW_GROUPS"]


LOCAL_ADDRESSES = 1 << 24
"""Addresses of words on chip are modulo this: what the engines add wraps around."""

MAX_COMMANDS = (1 << 16) - 1
"""Commands that a stream may have: an index has 16 bits."""

WINDOW_GROUPS = 32
"""Groups of taps of a window whose words the vector engine can keep: of a VECTOR with ``slide``."""

LINE_KERNELS = (3, 5)
"""Sizes of the square windows whose rows the vector engine can keep: of a VECTOR with ``lines``."""

LINE_WORDS = max(LINE_KERNELS) - 1
"""Words that are kept of a column."""

LINE_QUARTERS = 4
"""Parts of the lines at which the columns of a command may begin."""

TABLE_ENTRIES = 256
"""Of a look-up table: one for each byte."""

NORMALIZED_LANES = 8
"""Lanes in which a NORMALIZE adds up squares: a row is a multiple of as many values."""

MOST_NORMALIZED = 4096
"""Channels of the longest row of a NORMALIZE."""

MOST_ROW_UNITS = 16
"""Lanes of rows that a SOFTMAX or a NORMALIZE may take in a cycle."""

PAGE_BYTES = 4096
"""A burst of AXI4 must not cross a multiple of it."""

WIDER_OPERANDS = {
    "activation_width": "zero points and bounds of that width in the commands, lanes of it in the "
                        "pixel streamer, the requantizer, the vector engine and the sequential "
                        "core, and tensors of it in the compiler",
    "weight_width": "lanes of that width in the vector engine and the sequential core, and "
                    "weights of it in the compiler",
}
"""What an operand that is not of 8 bits lacks, beside the array and the layout in memory, which
take others."""
