"""The device as a model in numpy, an engine of it in each file."""

from .device import FunctionalDevice

__all__ = ["FunctionalDevice"]
