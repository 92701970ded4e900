"""The banked activation memory and its arbitration."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from weft.config import AcceleratorConfig

from .delay import delay, unreset
from .registered_memory import RegisteredMemory
from .scratch_memory import ScratchMemory, unit_write_layout

__all__ = ["ActivationMemory"]


class ActivationMemory(wiring.Component):
    """Activation words in ``activation_banks`` banks, interleaved by the low address bits.

    Each bank takes one read and one write per cycle. Readers, and writers, are ordered by
    priority: number 0 is never refused; another waits while one before it wants the same bank.
    A read or write outside the memory is accepted, and has no effect. A read sees the writes that
    were accepted two cycles before it, or earlier.

    Parameters
    ----------
    config : :class:`AcceleratorConfig`
    readers, writers : :class:`int`
        Ports of each kind, at least 1.

    Members
    -------
    read_request : :py:`In(stream.Signature(24)).array(readers)`
        Word addresses.
    read_data : :py:`Out(data.ArrayLayout(8, rows)).array(readers)`
        The word, ``LATENCY`` cycles after its request was accepted.
    read_valid : :py:`Out(1).array(readers)`
    write : :py:`In(stream.Signature(unit_write_layout(rows))).array(writers)`

    Attributes
    ----------
    LATENCY : :class:`int`
        Cycles from an accepted request to its data.
    """

    LATENCY = RegisteredMemory.LATENCY + 1

    def __init__(self, config: AcceleratorConfig, *, readers: int, writers: int):
        if readers < 1 or writers < 1:
            raise ValueError(f"Readers and writers must be at least 1, not {readers} and {writers}")
        self._config  = config
        self._readers = readers
        self._writers = writers
        lanes = config.word_lanes
        super().__init__({
            "read_request": In(stream.Signature(24)).array(readers),
            "read_data":    Out(data.ArrayLayout(8, lanes)).array(readers),
            "read_valid":   Out(1).array(readers),
            "write":        In(stream.Signature(unit_write_layout(lanes))).array(writers),
        })

    def elaborate(self, platform):
        m = Module()

        count     = self._config.activation_banks
        bank_bits = exact_log2(count)
        lanes     = self._config.word_lanes
        banks     = [ScratchMemory(depth=self._config.activation_depth // count, lanes=lanes,
                                   registered=True)
                     for _ in range(count)]
        for index, bank in enumerate(banks):
            m.submodules[f"bank_{index}"] = bank

        def grant(requests, bank_of):
            for index, request in enumerate(requests):
                m.d.comb += request.ready.eq(~Cat(
                    before.valid & (bank_of(before) == bank_of(request))
                    for before in requests[:index]).any())

        def read_bank(request):
            return request.payload[:bank_bits]

        def write_bank(request):
            return request.p.address[:bank_bits]

        reads  = [self.read_request[i] for i in range(self._readers)]
        writes = [self.write[i] for i in range(self._writers)]
        grant(reads, read_bank)
        grant(writes, write_bank)

        for index, bank in enumerate(banks):
            # Lowest priority first: later assignments win.
            for request in reversed(reads):
                with m.If(request.valid & (read_bank(request) == index)):
                    m.d.comb += [
                        bank.read_address.eq(request.payload[bank_bits:]),
                        bank.read_enable.eq(1),
                    ]
            # A register in front of the bank: its blocks lie far apart.
            chosen = stream.Signature(bank.write.payload.shape()).create(
                path=(f"write_{index}",))
            m.d.sync += bank.write.valid.eq(chosen.valid)
            payload = unreset(m, bank.write.payload, f"write_payload_{index}")
            m.d.sync += payload.eq(chosen.payload)
            for request in reversed(writes):
                with m.If(request.valid & (write_bank(request) == index)):
                    m.d.comb += [
                        chosen.valid.eq(1),
                        chosen.p.address.eq(request.p.address[bank_bits:]),
                        chosen.p.data.eq(request.p.data),
                        chosen.p.mask.eq(request.p.mask),
                    ]

        # A register behind the bank multiplexer keeps it off the array's input path.
        for index, request in enumerate(reads):
            chosen = delay(m, read_bank(request), RegisteredMemory.LATENCY,
                           name=f"chosen_{index}", reset_less=True)
            pending = delay(m, request.valid & request.ready, RegisteredMemory.LATENCY,
                            name=f"pending_{index}")
            m.d.sync += self.read_valid[index].eq(pending)
            read_data = unreset(m, self.read_data[index], f"read_data_{index}")
            with m.If(pending):
                with m.Switch(chosen):
                    for number, bank in enumerate(banks):
                        with m.Case(number):
                            m.d.sync += read_data.eq(bank.read_data)

        return m
