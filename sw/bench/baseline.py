"""Recorded cycles, and what has become slower since. Cycles are deterministic: the same on every
machine."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from weft.files.output import write_text

from .measure import Measurement
from .records import FORMAT, read_record

__all__ = ["BASELINE", "TOLERANCE", "Growth", "compare", "load", "save"]


BASELINE = Path("benchmarks/baseline.json")
"""In the project's folder."""

TOLERANCE = 0.01
"""Share by which the cycles of a frame may grow."""


@dataclass(frozen=True, kw_only=True)
class Growth:
    """A frame that takes more cycles than was recorded, or fewer.

    Attributes
    ----------
    network, config : :class:`str`
    frame : :class:`str`
        ``cold`` or ``warm``.
    old, new : :class:`int`
        Cycles.
    """

    network: str
    config: str
    frame: str
    old: int
    new: int

    @property
    def share(self) -> float:
        """By which it grew."""
        return self.new / self.old - 1

    def __str__(self) -> str:
        return (f"{self.network} on {self.config}: a {self.frame} frame takes {self.new:,} "
                f"cycles, {self.old:,} are recorded ({self.share:+.1%})")


def load(path: Path = BASELINE) -> list[Measurement]:
    """The recorded measurements.

    Raises
    ------
    InputError
        If the file cannot be read, or is none of ours.
    """
    return read_record(path, "results", Measurement.from_dict, what="Baseline",
                       program="weft bench",
                       hint="; run this in the project's folder, name another file with "
                            "--baseline, or record one with weft bench --record")


def save(measurements: Iterable[Measurement], path: Path) -> None:
    """Writes measurements, to be read with :func:`load`."""
    results = ",\n".join(map(_json, measurements))
    text = f'{{"format": {FORMAT}, "results": [\n{results}\n]}}\n'
    write_text(path, text)


def _json(measurement: Measurement) -> str:
    """A layer takes a line, so that one can read what a change is about."""
    values = measurement.to_dict()
    layers = ",\n  ".join(json.dumps(layer) for layer in values.pop("layers"))
    return f' {json.dumps(values)[:-1]}, "layers": [\n  {layers}\n ]}}'


def compare(recorded: Iterable[Measurement], measured: Iterable[Measurement]) -> list[Growth]:
    """All frames whose cycles differ, in the order of ``measured``; networks and configurations
    that were not recorded are left out."""
    before = {(each.network, each.config): each for each in recorded}
    changes = []
    for new in measured:
        old = before.get((new.network, new.config))
        if old is None:
            continue
        # Constants that no longer stay on chip: every frame is a cold one.
        for frame, was, now in (("cold", old.cycles_cold, new.cycles_cold),
                                ("warm", old.cycles_warm, new.cycles_warm or new.cycles_cold)):
            if was is not None and was != now:
                changes.append(Growth(network=new.network, config=new.config, frame=frame,
                                      old=was, new=now))
    return changes
