"""The self-test of a board: what ``weft selftest`` runs."""

from .log import log_text
from .memory import Flaw
from .steps import Report, Step, self_test

__all__ = ["Flaw", "Report", "Step", "log_text", "self_test"]
