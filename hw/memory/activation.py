"""The banked activation memory and its arbitration."""

from collections.abc import Sequence
from functools import reduce
from operator import or_
from typing import Any

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from weft.hw.isa.config import AcceleratorConfig
from weft.hw.lib.delay import delay, register, unreset
from weft.hw.lib.fanout import SINKS, copies, parts

from .registered import RegisteredMemory
from .scratch import unit_write_layout

__all__ = ["ActivationMemory"]


def _free(before: Sequence[Any], wanted: Sequence[Value], bank: Value) -> Value:
    """None of the requests ``before``, which want the banks ``wanted``, wants ``bank``."""
    return ~Cat(request.valid & (other == bank)
                for request, other in zip(before, wanted, strict=True)).any()


class ActivationMemory(wiring.Component):
    """Activation words in ``activation_banks`` banks, interleaved by the low address bits.

    Each bank takes one read and one write per cycle. Readers, and writers, are ordered by
    priority: number 0 never waits; another does while one before it wants the same bank.
    Addresses are inside the memory: whoever asks has checked them. A read sees the writes that were
    accepted two cycles before it, or earlier.

    The last reader never waits for the others in the same cycle: its request is accepted, and held
    and tried again in the next cycle if another one took its bank. Only then it is not ready, and
    its word comes as many cycles later as it was refused.

    The last writer reaches the banks a cycle later than the others: it waits for those that wrote
    in the cycle before, so that its ``ready`` depends on registers alone.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
    readers, writers : :class:`int`
        Ports of each kind, at least 1.

    Members
    -------
    read_request_N : :py:`In(stream.Signature(24))`
        Word addresses. Reader 0 is ``always_ready``.
    read_data : :py:`Out(data.ArrayLayout(8, word_data_bytes)).array(readers)`
        The word, ``LATENCY`` cycles after its request was accepted (of the last reader: later if it
        had to be tried again); otherwise 0.
    read_valid : :py:`Out(1).array(readers)`
    write_N : :py:`In(stream.Signature(unit_write_layout(word_data_bytes)))`
        Writer 0 is ``always_ready``.

    Attributes
    ----------
    LATENCY : :class:`int`
        Cycles from an accepted request to its data.
    """

    LATENCY = RegisteredMemory.LATENCY + 2

    def __init__(self, config: AcceleratorConfig, *, readers: int, writers: int):
        if readers < 1 or writers < 1:
            raise ValueError(f"Readers and writers must be at least 1, not {readers} and {writers}")
        self._config  = config
        self._readers = readers
        self._writers = writers
        word_bytes = config.word_data_bytes
        super().__init__({
            **{f"read_request_{number}": In(stream.Signature(24, always_ready=number == 0))
               for number in range(readers)},
            "read_data":    Out(data.ArrayLayout(8, word_bytes)).array(readers),
            "read_valid":   Out(1).array(readers),
            **{f"write_{number}": In(stream.Signature(unit_write_layout(word_bytes),
                                                      always_ready=number == 0))
               for number in range(writers)},
        })

    @property
    def read_request(self) -> list[Any]:
        """The readers, by priority."""
        return [getattr(self, f"read_request_{number}") for number in range(self._readers)]

    @property
    def write(self) -> list[Any]:
        """The writers, by priority."""
        return [getattr(self, f"write_{number}") for number in range(self._writers)]

    def elaborate(self, platform: Any) -> Module:
        m = Module()

        # Each in parts that have input registers of their own: the memories lie far apart.
        count = self._config.activation_banks
        depth = self._config.activation_depth // count
        banks = [[RegisteredMemory(depth=depth, width=8 * (part.stop - part.start), granularity=8,
                                   role="activation")
                  for part in self._parts] for _ in range(count)]
        for index, bank in enumerate(banks):
            for part, memory in zip(self._parts, bank, strict=True):
                m.submodules[f"bank_{index}_{part.start}"] = memory
        self._write(m, banks)
        self._read(m, banks)

        return m

    @property
    def _parts(self) -> list[slice]:
        """Bytes of a word that share a memory."""
        return parts(self._config.word_data_bytes, SINKS // 8)

    def _read(self, m: Module, banks: list[list[RegisteredMemory]]) -> None:
        bank_bits = exact_log2(len(banks))
        requests  = self.read_request
        if len(requests) > 1:
            requests[-1] = self._retry(m, requests[-1])
        wanted    = [request.payload[:bank_bits] for request in requests]
        for index, request in enumerate(requests[1:], 1):
            m.d.comb += request.ready.eq(_free(requests[:index], wanted[:index], wanted[index]))

        # Registered in front of the banks. The last reader's address is the default.
        for number, bank in enumerate(banks):
            address = requests[-1].payload[bank_bits:]
            for request, at in reversed(list(zip(requests[:-1], wanted, strict=False))):
                address = Mux(request.valid & (at == number), request.payload[bank_bits:], address)
            enable = Cat(request.valid & (at == number)
                         for request, at in zip(requests, wanted, strict=True)).any()
            for index, memory in enumerate(bank):
                m.d.comb += [
                    memory.read_address.eq(
                        register(m, address, f"read_address_{number}_{index}", keep=True)),
                    memory.read_enable.eq(
                        register(m, enable, f"read_enable_{number}_{index}", keep=True)),
                ]

        for index, request in enumerate(requests):
            accepted = request.valid & request.ready
            m.d.comb += self.read_valid[index].eq(
                delay(m, accepted, self.LATENCY, name=f"valid_{index}"))
            # One-hot, by bank.
            chosen = delay(m, Cat(accepted & (wanted[index] == number)
                                  for number in range(len(banks))),
                           self.LATENCY - 2, name=f"chosen_{index}", reset_less=True)
            words = [Cat(memory.read_data for memory in bank) for bank in banks]
            held  = Value.cast(unreset(m, self.read_data[index], f"read_data_{index}"))
            terms = [Signal.like(held, name=f"term_{index}_{number}")
                     for number in range(len(banks))]
            for number, (word, term) in enumerate(zip(words, terms, strict=True)):
                for part, choice in copies(m, chosen[number], f"chosen_{index}_{number}",
                                           bits=len(held)):
                    m.d.comb += term[part].eq(Mux(choice, word[part], 0))
            m.d.sync += held.eq(reduce(or_, terms))

    def _retry(self, m: Module, request: Any) -> Any:
        """Holds ``request`` until it is granted. Its ``ready`` is a register: a refusal comes from
        far and late in a cycle."""
        tried   = stream.Signature(24).create(path=("tried",))
        refused = Signal()
        m.d.comb += [
            request.ready.eq(~refused),
            tried.valid.eq(request.valid | refused),
            tried.payload.eq(Mux(refused, register(m, tried.payload, "again"), request.payload)),
        ]
        m.d.sync += refused.eq(tried.valid & ~tried.ready)
        return tried

    def _write(self, m: Module, banks: list[list[RegisteredMemory]]) -> None:
        bank_bits = exact_log2(len(banks))
        requests  = self.write
        wanted    = [request.p.address[:bank_bits] for request in requests]
        *early, last = requests

        address_bits = len(banks[0][0].write_address)

        def local(payload: Any, part: slice) -> Value:
            """As one part of a bank sees it: bytes to write, address and data."""
            return Cat(payload.mask[part], payload.address[bank_bits:][:address_bits],
                       Value.cast(payload.data)[8 * part.start:8 * part.stop])

        # All but the last one are arbitrated a cycle before the write multiplexer.
        takes = []
        for index, request in enumerate(early):
            if index:
                m.d.comb += request.ready.eq(_free(early[:index], wanted[:index], wanted[index]))
            takes.append(Cat(request.valid & request.ready & (wanted[index] == number)
                             for number in range(len(banks))))
        held = [register(m, request.payload, f"write_{index}")
                for index, request in enumerate(early)]
        busy = Signal(len(banks))
        m.d.sync += busy.eq(reduce(or_, takes, C(0, len(banks))))
        if early:
            m.d.comb += last.ready.eq(~busy.bit_select(wanted[-1], 1))

        for number, bank in enumerate(banks):
            for part, memory in zip(self._parts, bank, strict=True):
                name = f"{number}_{part.start}"
                write = Signal.like(local(last.p, part), name=f"write_{name}", reset_less=True,
                                    attrs={"keep": 1})
                m.d.comb += Cat(memory.write_enable, memory.write_address,
                                memory.write_data).eq(write)
                m.d.sync += write.eq(local(last.p, part))
                with m.If(~(last.valid & (wanted[-1] == number))):
                    m.d.sync += write[:len(memory.write_enable)].eq(0)
                for index, take in enumerate(takes):
                    # A multiplexer of three takes two LUTs.
                    value = local(held[index], part)
                    for where, chosen in copies(m, take[number], f"take_{index}_{name}",
                                                bits=len(value), part=32):
                        with m.If(chosen):
                            m.d.sync += write[where].eq(value[where])
