"""Where the project lies, and beside it networks that are not part of it."""

from pathlib import Path

__all__ = ["MODELS", "REPRODUCERS", "ROOT"]

ROOT = Path(__file__).parents[1]

MODELS = ROOT.parent / "shared" / "models"
"""Real networks with inputs and golden outputs. Tests that use them are skipped without."""

REPRODUCERS = ROOT.parent / "shared" / "repro"
"""Networks that once went wrong."""
