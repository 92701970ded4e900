"""What of a model runs on an accelerator: the same for everyone who asks, be it to run it or only
to tell."""

from weft import compiler
from weft.frontend import partition
from weft.hw.isa.config import AcceleratorConfig
from weft.ir import Partition

__all__ = ["place"]


def place(model: object, config: AcceleratorConfig, rule: str | None = None) -> Partition:
    """A model in segments, with the layers that ``config`` has no room for on the host: its graphs
    compile.

    Parameters
    ----------
    model, rule
        See :func:`weft.frontend.partition`.
    config : :class:`AcceleratorConfig`

    Raises
    ------
    ModelError
        As :func:`weft.frontend.partition`.
    """
    return partition(model, lambda graphs: compiler.misfits(graphs, config), rule)
