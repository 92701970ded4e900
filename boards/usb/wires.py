"""The wires of a USB cable, between a device and its pins."""

from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

__all__ = ["UsbWires"]


class UsbWires(wiring.Signature):
    """D+ and D-, seen from a device.

    Members
    -------
    p_i, n_i : :py:`In(1)`
        What is on the wires, asynchronous.
    p_o, n_o : :py:`Out(1)`
    oe : :py:`Out(1)`
        The device drives them.
    pullup : :py:`Out(1)`
        There is a resistor at D+, by which the host sees the device.
    """

    def __init__(self) -> None:
        super().__init__({
            "p_i":    In(1),
            "n_i":    In(1),
            "p_o":    Out(1),
            "n_o":    Out(1),
            "oe":     Out(1),
            "pullup": Out(1),
        })
