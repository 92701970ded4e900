"""The command set: one definition for RTL, compiler, functional simulator and documentation.

A command is a fixed 64-byte descriptor in external memory, little-endian. The device fetches a
stream of them in order and hands each to the queue of its engine. Engines run concurrently and
meet only at counting semaphores, one for each ordered pair of engines: a command lists from which
engines it consumes a token before it starts, and to which engines it gives one when it is done.
"""


from amaranth.hdl import signed, unsigned
from amaranth.lib import data, enum

__all__ = ["COMMAND_BYTES", "Engine", "Opcode", "Memory", "Header", "LoadCommand", "MatrixCommand",
           "StoreCommand", "TurnCommand", "SoftmaxCommand", "NormalizeCommand", "VectorOp",
           "VectorCommand", "Rounding", "COMMANDS", "ROW_OPCODES", "ENGINES"]


COMMAND_BYTES = 64
_COMMAND_BITS = COMMAND_BYTES * 8


class Engine(enum.Enum, shape=2):
    """The engines, in the order of their bits in wait and post masks."""
    LOAD   = 0
    MATRIX = 1
    VECTOR = 2
    STORE  = 3

    __hash__ = object.__hash__  # of the member, not of its name: the compiler looks up millions


class Opcode(enum.Enum, shape=8):
    """What a command does. Zero is no opcode, so that cleared memory is no program."""
    LOAD    = 0x01
    MATRIX  = 0x02
    STORE   = 0x03
    VECTOR  = 0x04
    TURN    = 0x05
    SOFTMAX = 0x06
    NORMALIZE = 0x07

    __hash__ = object.__hash__


class Memory(enum.Enum, shape=3):
    """On-chip memories a LOAD can fill. Addresses count units of the memory, not bytes."""
    ACTIVATION       = 0
    WEIGHT           = 1
    PARAMETER        = 2
    VECTOR_WEIGHT    = 3
    VECTOR_PARAMETER = 4
    TABLE            = 5
    LANE_TABLE       = 6  # the same memory, with another entry for each lane
    ROW_CONSTANT     = 7  # what SOFTMAX and NORMALIZE look up


class Header(data.Struct):
    """The first 32 bits of every command."""
    opcode: Opcode
    wait:   unsigned(4)   # consume a token from each of these engines before starting
    post:   unsigned(4)   # give a token to each of these engines when done
    _0:     unsigned(16)


class LoadCommand(data.Struct):
    """Copy ``lines`` runs of ``units`` units each from external memory to an on-chip memory.

    A unit is an activation word, a weight row, a parameter entry, a weight entry of the vector
    engine, an entry of a table or a row constant; in external memory it takes the next power of 2
    of its bytes. An entry of TABLE is a byte, that of all lanes, and one of LANE_TABLE a byte for
    each lane. Those are for VECTOR, and with ``config.drain_lane_tables`` also for MATRIX: without,
    what a MATRIX finds is what a LOAD of TABLE has written there last.
    Addresses in external memory are in bytes and must be multiples of the beat size.
    """
    header:        Header
    memory:        Memory
    _0:            unsigned(13)
    lines:         unsigned(16)  # 1..65535
    address:       unsigned(64)  # of the first line, bytes
    stride:        unsigned(32)  # from line to line, bytes
    units:         unsigned(24)  # per line, at least 1
    _1:            unsigned(8)
    local_address: unsigned(24)  # of the first line, units
    _2:            unsigned(8)
    local_stride:  unsigned(24)  # from line to line, units
    _3:            unsigned(_COMMAND_BITS - 248)


class StoreCommand(data.Struct):
    """Copy activation words to external memory; fields as in :class:`LoadCommand`."""
    header:        Header
    _0:            unsigned(16)
    lines:         unsigned(16)
    address:       unsigned(64)
    stride:        unsigned(32)
    units:         unsigned(24)
    _1:            unsigned(8)
    local_address: unsigned(24)
    _2:            unsigned(8)
    local_stride:  unsigned(24)
    _3:            unsigned(_COMMAND_BITS - 248)


class Rounding(enum.Enum, shape=2):
    """How sums become int8 values. Those of fixed point need ``fixed_point``.

    With BYTE a byte of the sum takes its place: ``v`` becomes ``(v >> 8 * k) mod 256``, which is
    scaled by the rule of FLOAT32. The two lowest bits of the channel's scale are ``k``; they are
    those of least weight, so that a scale of 1, an ``out_zero`` of -128 and any ``k`` give the byte
    less 128. So sums leave the accelerator whole, each as some channels of the output. It is for
    MATRIX alone, and the sequential core lacks it.
    """
    FLOAT32          = 0  # as onnxruntime does on x86
    FIXED_POINT      = 1  # as TFLite Micro does: rounding twice
    FIXED_POINT_ONCE = 2  # as FULLY_CONNECTED of LiteRT's reference kernels does
    BYTE             = 3  # as it is, a byte for each channel of the output


class MatrixCommand(data.Struct):
    """One convolution (a fully connected layer is one of 1x1 output) over on-chip data.

    The engine walks, outermost first: column tiles, pixel tiles, kernel rows, kernel columns,
    channel blocks, pixels. Weight tiles lie in the weight memory in that order. Each pixel tile
    is requantized to the output while the next one is accumulated. Addresses and plane sizes are
    in words of the activation memory; all sizes are at least 1, and ``clamp_min`` is at most
    ``clamp_max``. With a ``table``, which is at most ``config.drain_tables``, what is written is
    ``table[y]`` in place of a result ``y``, as of a LOOKUP of VECTOR: the entry of its lane, in all
    channel blocks alike.

    Products that the compiler can form are fields, so that the engine only adds:
    ``pixel_row_step = stride_h * in_w`` and ``kernel_row_step = dilation_h * in_w``;
    ``in_base`` is the address of pixel (0, 0) of channel block 0 less ``pad_top * in_w +
    pad_left``, modulo 2**24.

    A sum may be made by several commands, one behind the other, each for some of the channel
    blocks: all but the last one ``keep`` the sums in the accumulators and write nothing, all but
    the first one ``accumulate``, that is, go on from them. Such a command has a single column tile
    and a single pixel tile. One with ``accumulate`` must come right behind one with ``keep``, of as
    many pixels, and nothing else may. The output then begins at part ``out_slot`` of its first
    word, so that column tiles can have commands of their own where they share words. The
    sequential core has no accumulators to keep: there all three must be zero.

    With ``config.products``, ``weight_zero`` is a weight for the column that corrects, in all of
    its lanes; a TURN says why. Weights that are constants ask for 0. Without, it is ignored.
    """
    header:          Header
    in_base:         unsigned(24)
    in_zero:         signed(8)     # input zero point, injected for taps that fall outside
    in_plane:        unsigned(24)  # from channel block to channel block
    pad_top:         unsigned(8)
    in_h:            unsigned(16)
    in_w:            unsigned(16)
    channel_blocks:  unsigned(16)
    kernel_h:        unsigned(8)
    kernel_w:        unsigned(8)
    stride_h:        unsigned(8)
    stride_w:        unsigned(8)
    dilation_h:      unsigned(8)
    dilation_w:      unsigned(8)
    pixel_row_step:  unsigned(24)
    pad_left:        unsigned(8)
    kernel_row_step: unsigned(24)
    _0:              unsigned(8)
    out_w:           unsigned(16)
    tile_pixels:     unsigned(16)  # pixels of a full pixel tile, at most accumulator_pixels
    out_pixels:      unsigned(24)  # out_h * out_w
    out_zero:        signed(8)
    out_base:        unsigned(24)
    clamp_min:       signed(8)
    out_plane:       unsigned(24)
    clamp_max:       signed(8)
    col_tiles:       unsigned(16)
    last_groups:     unsigned(8)   # requantization groups in use in the last column tile
    rule:            Rounding
    accumulate:      unsigned(1)   # add to the sums that the command before has kept
    keep:            unsigned(1)   # leave the sums to the next command, and write nothing
    _1:              unsigned(4)
    weight_base:     unsigned(24)  # weight row of the first tile
    out_slot:        unsigned(8)   # requantization group of the first word that comes first
    parameter_base:  unsigned(24)  # parameter entry of the first group
    table:           unsigned(9)   # results go through table n - 1; not through any if 0
    weight_zero:     signed(8)     # zero point of weights that a TURN has made
    _2:              unsigned(_COMMAND_BITS - 489)


class TurnCommand(data.Struct):
    """Make the weights and the parameters of a MATRIX of a tensor on chip, so that the product of
    two tensors is one of an input and weights. Needs ``config.products``.

    The tensor is ``blocks`` channel blocks of ``pixels`` words each, one behind the other; of the
    last block ``lanes`` lanes are in use. Its values are ``B[k, n]``: of pixel ``k`` and channel
    ``n``, or, ``turned``, of pixel ``n`` and channel ``k``. Weight tiles are written in the order
    in which a MATRIX of ``ceil(n / cols)`` column tiles, ``ceil(k / rows)`` channel blocks and a
    kernel of one walks them, from ``weight_base``. Lanes beyond the tensor hold ``zero``, its zero
    point.

    From ``parameter_base``, ``requant_groups`` entries for each column tile are written. All
    channels have the same ``scale``; the bias of a channel is, with the fast inner product and
    with a plain array::

        bias - sum over pairs of (B[k, n] + input_zero) * (B[k + 1, n] + input_zero)
        bias - sum of input_zero * B[k, n]

    modulo 2**32, over all lanes of its column. With ``K`` lanes, that is ``rows`` times the channel
    blocks, ``bias`` is to be ``K / 2 * (input_zero + zero)**2``, or ``K * input_zero * zero``. For
    the MATRIX, ``weight_zero`` is ``zero``: its column that corrects then takes ``sum (A[k] + zero)
    * (A[k + 1] + zero)`` over pairs, or ``zero * sum A``, off each sum, and what is left is ``sum
    (A[k] - input_zero) * (B[k, n] - zero)``. A lane that holds ``zero`` adds nothing to that,
    whatever ``A`` has there.

    It takes a cycle for each word and for each place beyond the tensor in a block of ``rows``
    pixels; ``turned``, ``rows`` cycles more. LOADs before it are done before it begins, and it is
    done before those behind it begin.
    """
    header:         Header
    in_base:        unsigned(24)  # word of pixel 0 of channel block 0
    zero:           signed(8)     # of the tensor
    in_plane:       unsigned(24)  # from channel block to channel block
    input_zero:     signed(8)     # of the input of the MATRIX
    pixels:         unsigned(16)  # at least 1
    blocks:         unsigned(16)  # at least 1
    lanes:          unsigned(8)   # 1 to rows
    turned:         unsigned(1)   # pixels are channels of the result, not of the input
    _0:             unsigned(7)
    weight_base:    unsigned(24)  # weight row
    _1:             unsigned(8)
    parameter_base: unsigned(24)  # parameter entry
    _2:             unsigned(8)
    bias:           signed(32)
    scale:          unsigned(32)  # bits of a float32, as in :class:`ChannelParameters`
    _3:             unsigned(_COMMAND_BITS - 272)


class SoftmaxCommand(data.Struct):
    """The share of each value of a row in the sum of the row. Needs ``config.softmax``.

    A row is a pixel of ``blocks`` channel blocks of ``pixels`` words each, one behind the other; of
    the last block ``lanes`` lanes are in use. With ``t[d]`` for entry ``255 - d`` of the memory
    ROW_CONSTANT, see :class:`Exponential`, and ``d`` for how far a value is below the largest one
    of its row, ::

        sum    = fl24(... fl24(fl24(t[d0] + t[d1]) + t[d2]) + ...)
        result = min(RNE(factor * 2**(exponent - 15) * t[d] / sum) + out_zero, 127)

    over all lanes of the row, from the first one to the last. ``fl24`` rounds to 24 bits, half to
    even, whatever the exponent; the quotient is exact, and rounded once; it is 0 where ``t[d]`` is.
    Lanes beyond the row hold ``out_zero``. ``factor`` is at least 2**15.

    Rows are taken in batches of ``4 * config.row_units``. A batch takes a cycle for each word to
    find the largest values, and twice four cycles for each lane of its channel blocks, to add up
    and to divide. It may write over what it reads, word by word. LOADs before it are done before it
    begins, and it is done before those behind it begin.
    """
    header:    Header
    in_base:   unsigned(24)  # word of pixel 0 of channel block 0
    out_zero:  signed(8)
    in_plane:  unsigned(24)  # from channel block to channel block
    lanes:     unsigned(8)   # 1 to rows
    out_base:  unsigned(24)
    exponent:  unsigned(4)
    _0:        unsigned(4)
    out_plane: unsigned(24)
    _1:        unsigned(8)
    pixels:    unsigned(16)  # at least 1
    blocks:    unsigned(16)  # at least 1
    factor:    unsigned(16)
    _2:        unsigned(_COMMAND_BITS - 208)


class NormalizeCommand(data.Struct):
    """Layer normalization of rows. Needs ``config.normalize_channels``.

    A row is a pixel of ``blocks`` channel blocks of ``pixels`` words each, as that of a SOFTMAX;
    its ``length`` values are a multiple of 8. With the float32 values ``x[k]`` that the tables of
    the memory ROW_CONSTANT have for them, ``fl32`` for rounding to float32, half to even, and
    ``fma`` for a product and a sum that are rounded once, ::

        mean     = fl32(sum of x / length)                           the sum is exact
        d[k]     = fl32(x[k] - mean)
        s[k]     = fma(d[k], d[k], s[k - 8])                         s[-8..-1] = 0
        t        = the last eight s, added in halves: (0 1 2 3) + (4 5 6 7), (0 1) + (2 3), 0 + 1
        variance = fl32(t / length)
        factor   = fl32(1 / fl32(sqrt(fl32(variance + epsilon))))
        y[k]     = fma(fl32(d[k] * factor), scale[k], shift[k])
        result   = the number of thresholds that are at most y[k], minus 128

    Of ROW_CONSTANT, entry ``TERMS + (q mod 256)`` is the float32 that the byte ``q`` stands for:
    a multiple of ``2**(sum_exponent - 150)`` below ``2**(sum_exponent - 118)``. Entries ``CHANNELS
    + 2 * k`` and the next one are ``scale[k]`` and ``shift[k]``. Entry ``THRESHOLDS + 128 + j``,
    for ``j`` from -128 to 126, is the least float32 ``y`` that yields more than ``j``, and the last
    entry is beyond all: of a float32 ``f`` with the bits ``b`` there stands ``b + 2**31``, or, if
    it is negative, ``2**32 - 1 - b``, which are in the order of the values. All float32 values are
    0 or normal, and no value on the way is too large or too small for a normal one.

    ``y * rate * 2**(rate_exponent - 15)`` must be within a quarter of ``y`` in steps of the
    output, to find the threshold. ``rate`` and ``length`` are at least 2**15: a row has ``length *
    2**(length_exponent - 15)`` values. Lanes beyond the row hold ``out_zero``.

    Rows are taken in batches of ``4 * config.row_units``, and each batch goes through all its lanes
    three times, a lane of ``row_units`` rows in a cycle: for the mean, for the variance, and for
    the results. It may write over what it reads, word by word. LOADs before it are done before it
    begins, and it is done before those behind it begin.
    """
    header:          Header
    in_base:         unsigned(24)  # word of pixel 0 of channel block 0
    out_zero:        signed(8)
    in_plane:        unsigned(24)  # from channel block to channel block
    lanes:           unsigned(8)   # of the last channel block, 1 to rows
    out_base:        unsigned(24)
    length_exponent: unsigned(4)
    _0:              unsigned(4)
    out_plane:       unsigned(24)
    sum_exponent:    unsigned(8)
    pixels:          unsigned(16)  # at least 1
    blocks:          unsigned(16)  # at least 1
    length:          unsigned(16)
    rate:            unsigned(16)
    rate_exponent:   signed(8)
    _1:              unsigned(24)
    epsilon:         unsigned(32)  # bits of a float32
    _2:              unsigned(_COMMAND_BITS - 288)


class VectorOp(enum.Enum, shape=4):
    """What a VECTOR computes, per channel."""
    CONV     = 0  # depthwise convolution; with weights of 1 also sums, that is, average pooling
    MAX      = 1  # maximum of a window
    ADD      = 2  # weighted sum, or difference, of two tensors
    MULTIPLY = 3  # product of two tensors
    LOOKUP   = 4  # nothing: the word itself, for a table


class VectorCommand(data.Struct):
    """One operation channel by channel over on-chip data.

    The engine walks, outermost first: channel blocks, outer output positions, inner output
    positions, kernel rows, kernel taps. One word of the input is read per tap, one word written
    per position. *Outer* and *inner* are the two axes of a plane, in whatever order suits:
    every axis has a size, and an address step for input and output, so that a command may slide
    along columns or rows, and work on a part of a plane, a part of the channel blocks, or write
    into a part of a larger tensor. With the positions counted from zero, the word of a tap is at ::

        in_base + block * in_block_step + outer * in_outer_step + inner * in_inner_step
                + row * kernel_outer_step + tap * kernel_inner_step           modulo 2**24

    and has the coordinates ``outer * stride_outer + row * dilation_outer - pad_outer`` and
    ``inner * stride_inner + tap * dilation_inner - pad_inner``. A tap is read only if both are
    inside ``in_outer`` and ``in_inner``; another counts as ``in_zero``, or as -128 for MAX.
    ``in_base`` is, as for MATRIX, an address from which the padding has been subtracted. For
    element-wise operations paddings and dilations are zero and the sizes those of the output.
    The result is at ``out_base + block * out_block_step + outer * out_outer_step + inner *
    out_inner_step``.

    ``scaled(v)`` below is the requantization of a MATRIX, ``RNE(fl32(fl32(v + bias) * scale)) +
    out_zero``, its parameters ``rows / requant_lanes`` entries of the vector parameter memory for
    each channel block, in order from ``parameter_base``. Sums are int32 and wrap. With a
    fixed-point ``rule``, ``scaled`` is that of a MATRIX of that rule, and the parameters are
    :class:`FixedPointParameters`. ``T`` is ``config.vector_taps``.

    CONV
        ``scaled(sum(x * w))``. The taps of a kernel row are taken in groups of T, and each group
        has one entry of the vector weight memory; entries follow each other in the order in which
        they are used: channel block, kernel row, group. Byte ``t * rows + lane`` of an entry is a
        weight. A group of fewer than T taps fills the *last* ones of the T places; the places
        before are zero. The bias holds ``-in_zero * sum(w)``. With ``slide``, the words of a
        window stay for the next inner position and a group reads only ``min(stride_inner, taps)``
        words, except at the first inner position; this requires ``dilation_inner == 1``, kernel
        rows times groups of at most 32, and steps in proportion: ``in_inner_step ==
        stride_inner * kernel_inner_step``. A position takes one cycle for every word it reads.
        With ``lines``, see below, the rows of a window stay as well.
        Average pooling: weights 1, scale ``1 / count`` times the ratio of the scales.
    MAX
        ``max(x)``, and no requantization; ``slide`` as for CONV.
    ADD
        ``scaled(a * Ma + b * Mb)``, or ``scaled(a * Ma - b * Mb)`` with ``subtract``.
        ``kernel_outer`` is 2 and ``kernel_inner`` is ``ceil(3 / T)``. Row 0 is ``a``, row 1 is
        ``b``; so ``kernel_outer_step`` is the distance from ``a`` to ``b``. Ma and Mb are unsigned
        24-bit numbers, for each channel, in the weight entries, which follow in the order channel
        block, operand, entry of the operand: byte ``k`` is place ``k % T`` of entry ``k // T``, and
        places without a byte are zero. The whole sum, bias included, must fit an int32.
        QLinearAdd rounds after adding the zero point: fold it, and those of the operands, into the
        bias and give ``out_zero`` zero. ``ceil(3 / T) * 2`` cycles per word.
        With ``config.vector_lines`` both multipliers of a channel block are in one entry, the bytes
        of Ma in its places 0 to 2 and those of Mb in 3 to 5, and a word takes a cycle.
    MULTIPLY
        ``scaled((a - in_zero) * (b - second_zero))``. ``kernel_outer`` is 2, ``kernel_inner`` 1.
        2 cycles per word; 1 with ``config.vector_lines``.
    LOOKUP
        ``x``, for a ``table``, which must be given. ``kernel_outer`` and ``kernel_inner`` are 1.
        1 cycle per word.

    Every result is clamped. With a ``table``, which is at most ``config.vector_tables``, what is
    written is ``table[y]`` in place of a result ``y``: in each lane entry ``256 * (table - 1) +
    (y mod 256)`` of the table memory. With ``table_step`` each channel block has a table of its
    own, in order, of which ``table`` is the first. A table costs no cycles per word.

    With ``lines``, which needs ``config.vector_lines``, a CONV or MAX that has ``slide`` keeps the
    words of its last rows for the next outer position, within a channel block, and reads a word
    once. The window is to be 3x3 or 5x5, ``dilation_outer`` 1, ``stride_inner`` 1 or 2, and steps
    in proportion along both axes: ``in_outer_step == stride_outer * kernel_outer_step``. Columns
    are those of the input from the first one that is inside to the last one of the last window,
    ``(out_inner - 1) * stride_inner + kernel_inner - min(pad_inner, kernel_inner - 1)``, and at
    most ``config.vector_lines``. The weights of a window of K x K come in ``ceil(K / R)`` groups of
    ``R = min(K, T // K)`` kernel rows, one entry for each; the first group may have fewer rows.
    Rows fill the last places of an entry, row by row. Each column takes a cycle for each new word,
    ``min(stride_outer, K)``, or ``K - min(pad_outer, K - 1)`` at the first outer position, but at
    least one for each group.

    The words of a column are kept in a line, the last four of them. Column ``c`` of channel block
    ``k`` has the line ``quarter * vector_lines / 4 + k * columns + c``, modulo ``vector_lines``.
    With ``resumes`` a command does not begin anew: what is in its lines are the words of the rows
    above those that the first outer position adds, ``min(stride_outer, K)`` of them, as if it were
    not the first one. So a command goes on where an earlier one of as many columns and blocks in
    the same place ended, if no other one in between has used these lines.

    All but MAX and LOOKUP take at least ``rows / requant_lanes`` cycles per word. With ``shared``
    all channel blocks use the weights and parameters of the first; MAX and LOOKUP have neither and
    ignore it, and their ``rule`` must be zero. With ``broadcast``, ADD and MULTIPLY take ``b`` from
    a plane of one word: ``in_base + kernel_outer_step + block * kernel_inner_step``. ``slide``,
    ``lines``, ``broadcast`` and ``subtract`` must be zero where they are not mentioned, ``resumes``
    and ``quarter`` without ``lines``,
    ``table_step`` without a ``table``, and ``clamp_min`` at most ``clamp_max``.

    All sizes are at least 1. A command starts when the one before it has read its last word: one
    that reads what that writes must wait for its token. An element-wise operation may write over
    its operands, word by word.
    """
    header:            Header
    in_base:           unsigned(24)
    in_zero:           signed(8)
    in_block_step:     unsigned(24)
    pad_outer:         unsigned(8)
    in_outer_step:     unsigned(24)
    pad_inner:         unsigned(8)
    in_inner_step:     unsigned(24)
    kernel_outer:      unsigned(8)   # kernel rows, or operands
    kernel_outer_step: unsigned(24)
    kernel_inner:      unsigned(8)   # taps of a kernel row
    kernel_inner_step: unsigned(24)
    second_zero:       signed(8)     # zero point of the second factor of MULTIPLY
    in_outer:          unsigned(16)  # size of the input, for the padding
    in_inner:          unsigned(16)
    stride_outer:      unsigned(8)
    stride_inner:      unsigned(8)
    dilation_outer:    unsigned(8)
    dilation_inner:    unsigned(8)
    blocks:            unsigned(16)  # channel blocks
    out_outer:         unsigned(16)  # positions
    out_inner:         unsigned(16)
    weight_base:       unsigned(16)  # entry of the vector weight memory
    out_base:          unsigned(24)
    out_zero:          signed(8)
    out_block_step:    unsigned(24)
    clamp_min:         signed(8)
    out_outer_step:    unsigned(24)
    clamp_max:         signed(8)
    out_inner_step:    unsigned(24)
    op:                VectorOp
    slide:             unsigned(1)   # keep words for the next inner position
    broadcast:         unsigned(1)   # the second operand has one word per channel block
    subtract:          unsigned(1)   # ADD subtracts the second operand
    shared:            unsigned(1)   # weights and parameters are those of channel block 0
    parameter_base:    unsigned(16)  # entry of the vector parameter memory
    table:             unsigned(9)   # results go through table n - 1; not through any if 0
    table_step:        unsigned(1)   # each channel block has the table after that of the last one
    rule:              Rounding
    lines:             unsigned(1)   # keep rows for the next outer position
    resumes:           unsigned(1)   # the rows above the first position are kept already
    quarter:           unsigned(2)   # of the lines, at which the columns of a command begin


COMMANDS: dict[Opcode, type[data.Struct]] = {
    Opcode.LOAD: LoadCommand, Opcode.MATRIX: MatrixCommand, Opcode.STORE: StoreCommand,
    Opcode.VECTOR: VectorCommand, Opcode.TURN: TurnCommand, Opcode.SOFTMAX: SoftmaxCommand,
    Opcode.NORMALIZE: NormalizeCommand,
}
"""Layout of each opcode."""

ROW_OPCODES = (Opcode.SOFTMAX, Opcode.NORMALIZE)
"""Those that compute something of rows of channels, on the LOAD engine."""

ENGINES: dict[Opcode, Engine] = {
    Opcode.LOAD: Engine.LOAD, Opcode.MATRIX: Engine.MATRIX, Opcode.STORE: Engine.STORE,
    Opcode.VECTOR: Engine.VECTOR, Opcode.TURN: Engine.LOAD, Opcode.SOFTMAX: Engine.LOAD,
    Opcode.NORMALIZE: Engine.LOAD,
}
"""Engine that executes each opcode."""


assert all(data.Layout.cast(layout).size == _COMMAND_BITS for layout in COMMANDS.values())
