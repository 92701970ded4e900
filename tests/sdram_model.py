"""The simulator's model of an SDRAM chip, for Python: at the pins of a simulated controller, or
command by command."""

import ctypes
import subprocess
from ctypes import c_bool, c_char_p, c_uint8, c_uint32, c_uint64, c_void_p
from pathlib import Path

from amaranth.hdl import Value

import weft.sim
from weft.boards.sdram.signals import Command
from weft.sim.sdram import SdramParameters, sdram_parameters

__all__ = ["ModelChip", "build_model", "connect_chip"]


_SOURCE = """
#include "sdram.h"
extern "C" {
Sdram* create(const SdramParameters* p) { return new Sdram(*p); }
void destroy(Sdram* s) { delete s; }
void reset(Sdram* s) { s->reset(); }
void step(Sdram* s, unsigned command, unsigned bank, uint32_t address, unsigned mask,
          uint32_t word, bool drives) { s->clock(command, bank, address, mask, word, drives); }
bool driven(Sdram* s) { return s->driven(); }
uint32_t word(Sdram* s) { return s->word(); }
uint8_t* contents(Sdram* s) { return s->contents(); }
uint64_t size(Sdram* s) { return s->bytes(); }
void break_refresh(Sdram* s) { s->break_refresh(); }
const char* error(Sdram* s) { return s->error(); }
}
"""

_FUNCTIONS = {
    "create":   ([ctypes.POINTER(SdramParameters)], c_void_p),
    "destroy":  ([c_void_p], None),
    "reset":    ([c_void_p], None),
    "step":     ([c_void_p, c_uint32, c_uint32, c_uint32, c_uint32, c_uint32, c_bool], None),
    "driven":   ([c_void_p], c_bool),
    "word":     ([c_void_p], c_uint32),
    "contents": ([c_void_p], ctypes.POINTER(c_uint8)),
    "size":     ([c_void_p], c_uint64),
    "break_refresh": ([c_void_p], None),
    "error":    ([c_void_p], c_char_p),
}


def build_model(folder: Path) -> ctypes.CDLL:
    """Compiles it."""
    source, library = folder / "model.cpp", folder / "model.so"
    source.write_text(_SOURCE)
    subprocess.run(["g++", "-std=gnu++20", "-O1", "-shared", "-fPIC", f"-I{weft.sim.__path__[0]}",
                    "-o", library, source], check=True)
    model = ctypes.CDLL(str(library))
    for name, (arguments, result) in _FUNCTIONS.items():
        getattr(model, name).argtypes = arguments
        getattr(model, name).restype = result
    return model


class ModelChip:
    """A chip at a clock; ``model`` is what :func:`build_model` gives."""

    def __init__(self, model, chip, *, clock_mhz, beat_bits):
        self._model = model
        self._handle = model.create(ctypes.byref(sdram_parameters(chip, clock_mhz=clock_mhz,
                                                                  beat_bits=beat_bits)))

    def __del__(self):
        self._model.destroy(self._handle)

    def step(self, command=Command.NOP, bank=0, address=0, *, mask=0, word=0, drives=False):
        """A clock edge; the word that is shown, or None."""
        self._model.step(self._handle, getattr(command, "value", command), bank, address, mask,
                         word, drives)
        return self._model.word(self._handle) if self._model.driven(self._handle) else None

    def reset(self):
        self._model.reset(self._handle)

    def break_refresh(self):
        self._model.break_refresh(self._handle)

    @property
    def error(self):
        return self._model.error(self._handle).decode()

    def read(self, address, count):
        return bytes(self._model.contents(self._handle)[address:address + count])


def connect_chip(simulator, chip, pins, *, junk=0x5a5a):
    """Lets ``chip`` sit at the ``pins`` of a simulated controller, behind the registers of the
    pins. Words that nobody drives are ``junk``."""
    async def testbench(ctx):
        at_pins = (0, 0, 0, 0, 0, 0)
        shown = junk
        while True:
            word = chip.step(at_pins[0], *at_pins[1:3], mask=at_pins[3], word=at_pins[4],
                             drives=bool(at_pins[5]))
            _clk, _rst, *at_pins = await ctx.tick().sample(
                Value.cast(pins.command), pins.bank, pins.address, pins.mask, pins.dq_o,
                pins.dq_oe)
            ctx.set(pins.dq_i, shown)
            shown = junk if word is None else word
            assert not chip.error, chip.error

    simulator.add_testbench(testbench, background=True)
