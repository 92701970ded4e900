"""The best accelerators for some networks and an FPGA: ``weft explore``.

``space`` says what may be chosen, ``trial`` what a choice comes to, ``search`` chooses, ``points``
compiles the front in full and writes it, ``page`` shows it. Needs the extra ``explore``.
"""

from .exploration import Exploration, Result, explore

__all__ = ["Exploration", "Result", "explore"]
