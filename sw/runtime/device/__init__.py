"""Devices: the driver and the back-ends it works on."""

from .base import Device, DeviceError, DeviceStopped, DeviceTimeout, Event, EventKind
from .driver import WATCHDOG_CYCLES, Driver, RunResult

__all__ = ["Device", "DeviceError", "DeviceStopped", "DeviceTimeout", "Event", "EventKind",
           "Driver", "RunResult", "WATCHDOG_CYCLES"]
