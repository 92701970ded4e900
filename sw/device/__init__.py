"""Devices: the driver and the back-ends it works on."""

from weft.device.base import (
    Device,
    DeviceError,
    DeviceStopped,
    DeviceTimeout,
    Event,
    EventKind,
)
from weft.device.driver import Driver, RunResult

__all__ = ["Device", "DeviceError", "DeviceStopped", "DeviceTimeout", "Event", "EventKind",
           "Driver", "RunResult"]
