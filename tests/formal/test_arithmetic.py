"""The fast inner product is the inner product."""

import pytest
from amaranth.hdl import Assert, Const, Module, Signal
from formal import free, spoil

from weft.hw.isa.array import ArrayShape
from weft.hw.isa.element import ElementType
from weft.hw.lib.delay import delay, register
from weft.hw.matrix.pe import ProcessingElement


def fip_spec(activation_width, weight_width, change=None):
    """A column's PE and that of the correction column, with the same pixels; weights shift in and
    become active at any time."""
    m = Module()
    shape = ArrayShape(rows=8, cols=1, fip=True, activation=ElementType(activation_width),
                       weight=ElementType(weight_width))
    pe, alpha = (ProcessingElement(shape, weighted=weighted) for weighted in (True, False))
    m.submodules.pe    = pe
    m.submodules.alpha = alpha
    if change is not None:
        spoil(pe, lambda inner: change(inner, pe))
    free(m, pe)
    m.d.comb += [alpha.i_pixel.eq(pe.i_pixel), alpha.i_psum.eq(pe.i_psum)]

    pixel = register(m, pe.i_pixel, "pixel")
    shadow, active = (Signal.like(pe.i_weights, name=name) for name in ("shadow", "active"))
    with m.If(pe.i_load):
        m.d.sync += shadow.eq(pe.i_weights)
    with m.If(pe.i_switch):
        m.d.sync += active.eq(shadow)
    dot  = pixel[0] * active[0] + pixel[1] * active[1]
    beta = active[0] * active[1]
    # The sums of both columns are of one width, and wrap together.
    full, difference = (Signal(len(pe.o_psum), name=name) for name in ("full", "difference"))
    m.d.comb += full.eq(dot + beta)
    started  = delay(m, Const(1), pe.psum_delay + 1, name="started")
    expected = delay(m, full, pe.psum_delay, name="expected")
    m.d.comb += [
        difference.eq(pe.o_psum - alpha.o_psum),
        Assert(~started | (difference == expected)),
    ]
    return m


@pytest.mark.parametrize(("activation_width", "weight_width"), [(2, 2), (3, 3), (2, 3), (4, 2)])
def test_fast_inner_product_is_the_inner_product(prove, activation_width, weight_width):
    # Any weights are active after three cycles; a sum of theirs is out after six more.
    prove(fip_spec(activation_width, weight_width), depth=10)


def test_sum_without_the_product_is_found(refute):
    refute(fip_spec(3, 3, lambda m, pe: m.d.comb.__iadd__(pe.o_psum.eq(0))), depth=10)
