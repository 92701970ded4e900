"""Registers for the fields of a command, filled while the command is fetched."""

from collections.abc import Iterable, Mapping
from typing import Any

from amaranth import *
from amaranth.lib import data

from weft.hw.isa.commands import COMMAND_BYTES

__all__ = ["Fields", "fetched_beat_layout"]


def fetched_beat_layout(data_width: int) -> data.StructLayout:
    """A beat of a command as it arrives: ``number`` counts from its beginning."""
    return data.StructLayout({
        "valid":  1,
        "number": range(8 * COMMAND_BYTES // data_width),
        "data":   data_width,
    })


class Fields:
    """Picks fields out of the beats of a command as they come by, each into a register of its own.

    There is no register for the command as a whole, nor for fields and bits that nobody needs.

    Parameters
    ----------
    m : :class:`Module`
    beat : of :func:`fetched_beat_layout`
    command : :class:`data.Struct`
        Layout of the command.
    widths : dict of :class:`str` to :class:`int`
        Fields to keep, and the bits of each.
    bounded : iterable of :class:`str`
        Those of them whose other bits must be zero.
    positive : iterable of :class:`str`
        Fields that must not be zero.
    zero : iterable of :class:`str`
        Fields that must be zero.

    Attributes
    ----------
    beyond : :class:`Signal`
        A bit that is not kept, of a field that is ``bounded``, is set. A cycle behind the beats.
    wrong : :class:`Signal`
        A field that must not be zero is, or one that must be zero is not.
    """

    def __init__(self, m: Module, beat: Any, command: type[data.Struct],
                 widths: Mapping[str, int], *, bounded: Iterable[str] = (),
                 positive: Iterable[str] = (), zero: Iterable[str] = ()):
        self._beat   = beat
        self._layout = data.Layout.cast(command)
        self._width  = len(beat.data)
        self.beyond  = Signal()
        self.wrong   = Signal()

        self._registers: dict[str, Signal] = {}
        for name, width in widths.items():
            field = self._layout[name]
            kept = min(width, field.width)
            shape = Shape(kept, signed=Value.cast(Signal(field.shape)).shape().signed)
            register = Signal(shape, name=f"field_{name}", reset_less=True)
            self._registers[name] = register
            for number, low, part in self._parts(field.offset, kept):
                with m.If(beat.valid & (beat.number == number)):
                    m.d.sync += register[low:low + len(part)].eq(part)

        def watch(flag: Signal, conditions: dict[int, list[Value]]) -> None:
            # The first beat holds no such field: it begins anew.
            found = Signal(name=f"{flag.name}_found")
            with m.Switch(beat.number):
                for number, values in conditions.items():
                    with m.Case(number):
                        m.d.comb += found.eq(Cat(values).any())
            with m.If(beat.valid):
                m.d.sync += flag.eq((beat.number != 0) & (flag | found))

        above: dict[int, list[Value]] = {}
        for name in bounded:
            field = self._layout[name]
            kept = len(self._registers[name])
            for number, _low, part in self._parts(field.offset + kept, field.width - kept):
                above.setdefault(number, []).append(part)
        watch(self.beyond, above)
        wrong: dict[int, list[Value]] = {}
        for name in zero:
            field = self._layout[name]
            for number, _low, part in self._parts(field.offset, field.width):
                wrong.setdefault(number, []).append(part)
        for name in positive:
            field = self._layout[name]
            parts = self._parts(field.offset, field.width)
            if len(parts) != 1:
                raise ValueError(f"Field {name} must lie in one beat")
            wrong.setdefault(parts[0][0], []).append(parts[0][2] == 0)
        watch(self.wrong, wrong)

    def __getattr__(self, name: str) -> Signal:
        try:
            return self.__dict__["_registers"][name]
        except KeyError:
            raise AttributeError(name) from None

    def _parts(self, offset: int, width: int) -> list[tuple[int, int, Value]]:
        """The bits of a field: number of their beat, where they begin in the field, and they."""
        parts = []
        low = 0
        while low < width:
            number, start = divmod(offset + low, self._width)
            count = min(self._width - start, width - low)
            parts.append((number, low, self._beat.data[start:start + count]))
            low += count
        return parts
