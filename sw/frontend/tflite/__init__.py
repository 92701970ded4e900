"""The front end for TFLite: from a quantized int8 file to a partition whose results are those of
TFLite's reference kernels.

``reader`` reads and checks a file, with the entries of ``options``, into the plain data of
``file``, and ``types`` refuses what is not quantized to int8. ``rules`` says how sums become int8
values. ``layers`` makes layers of operators, of what ``inputs`` finds; ``functions`` are tables,
``softmax`` and ``moves`` what is left; with them ``kernels`` is the golden model, and what the
host runs. ``handlers`` is the table of operators on the accelerator, ``builder`` collects its
layers and ``partition`` puts them into segments; ``model`` wraps what the host runs and compares
with, by way of ``litert`` where that is installed.
"""

from pathlib import Path

from weft.errors import InputError
from weft.ir import Misfits, Partition

from .partition import make_partition
from .reader import IDENTIFIER, read_file
from .rules import Rule

__all__ = ["TfliteFrontEnd"]


class TfliteFrontEnd:
    """The :class:`weft.frontend.protocol.FrontEnd` for TFLite: int8 activations and weights, one
    subgraph. The content of a file, as :class:`bytes`, is a model in memory."""

    format = "TFLite"
    rules = tuple(str(rule) for rule in Rule)

    def reads(self, path: Path, head: bytes) -> bool:
        return path.suffix.lower() == ".tflite" or head[4:8] == IDENTIFIER

    def takes(self, model: object) -> bool:
        return isinstance(model, bytes)

    def partition(self, model: object, misfits: Misfits | None = None,
                  rule: str = "") -> Partition:
        """See :meth:`weft.frontend.protocol.RuledFrontEnd.partition`."""
        if not isinstance(model, str | Path | bytes):
            raise TypeError(f"Model must be a path or the content of a file, not {model!r}")
        rule = rule or self.rules[0]
        if rule not in self.rules:
            raise InputError(f"Rule must be one of {', '.join(self.rules)}, not {rule}")
        return make_partition(read_file(model), Rule(rule), misfits)
