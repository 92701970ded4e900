"""When nextpnr's router will not find a way for what is late."""

import re

__all__ = ["RipUp"]


_ROUND = re.compile(r"iter=(\d+) .*\boverused=(\d+) .*\btmgfail=(\d+)")

_PATIENCE = 30  # rounds with nothing wrong but late wires
_ROUNDS = 400   # in all; a design that can be routed takes some dozens


class RipUp:
    """Reads the router's messages while it routes late wires again (``--tmg-ripup``), which it does
    for ever if some of them cannot be in time. Counts rounds, not seconds: the same design gives
    the same result on each machine."""

    def __init__(self) -> None:
        self._late = 0

    def in_vain(self, line: str) -> bool:
        """Whether to stop it, after ``line`` of its output."""
        found = _ROUND.search(line)
        if found is None:
            return False
        number, overused, late = map(int, found.groups())
        self._late += overused == 0 and late > 0
        return self._late >= _PATIENCE or number >= _ROUNDS
