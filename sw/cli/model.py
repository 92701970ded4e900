"""The network of a command: which file, and by which rule it rounds."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from .float_model import add_quantize_option, int8_model

if TYPE_CHECKING:
    from weft.hw.isa.config import AcceleratorConfig
    from weft.ir import Partition

__all__ = ["add_model_arguments", "chosen_plan"]


def add_model_arguments(parser: argparse.ArgumentParser, *, nargs: str | None = None,
                        help: str = "int8 network: ONNX in QDQ or QOperator form, or TFLite") \
        -> None:
    """The file, and the options that say what to make of it; see :func:`chosen_plan`."""
    parser.add_argument("model", type=Path, metavar="MODEL", nargs=nargs, help=help)
    add_quantize_option(parser)
    parser.add_argument("--rule", choices=("tflite", "tflite-micro", "onnxruntime"),
                        help="how sums become int8 values (default: as in the format's own "
                             "runtime); onnxruntime runs a TFLite network on a configuration "
                             "without fixed_point, and some values differ by one")


def chosen_plan(options: argparse.Namespace, config: "AcceleratorConfig") -> "Partition":
    """What runs where of the model of a command.

    Raises
    ------
    ModelError, InputError
        As :func:`~.float_model.int8_model` and :func:`weft.runtime.placing.place`.
    """
    from weft.runtime.placing import place

    return place(int8_model(options), config, options.rule)
