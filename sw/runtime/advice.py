"""What would make a network faster: changes that were tried, not rules of thumb.

Where most of a frame's cycles go says which changes are worth a try. The network is compiled for
each of them and played again, so that the figure is what ``weft estimate`` would tell with that
configuration.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from weft.compiler.timing.memory import MEMORY, MemoryTiming
from weft.errors import WeftError
from weft.ir import Partition

from .estimate import Estimate, estimate_plan

__all__ = ["Advice", "Trial", "advise"]


_BATCH = 4
_WORTH = 1.02  # less is not told

_PHRASES = {"matrix": "Bound by the array", "vector": "Bound by the vector engine",
            "load": "Bound by reading at the memory port",
            "rows": "Bound by softmax and layer normalization, a value of a row in a cycle",
            "store": "Bound by writing at the memory port",
            "latency": "Bound by latency, as the engines wait for one another"}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A change, and what it gives.

    Attributes
    ----------
    field : :class:`str`
        Of the configuration, or ``batch``.
    value : :class:`int`
    cycles : :class:`int`
        Of a further frame, or its share of a further batch.
    speedup : :class:`float`
        Cycles without the change / with it.
    """

    field: str
    value: int
    cycles: int
    speedup: float


@dataclass(frozen=True, kw_only=True)
class Advice:
    """What was found.

    Attributes
    ----------
    bound : :class:`str`
        What most cycles are owed to: matrix, vector, load, rows, store or latency, as of
        :class:`weft.runtime.estimate.BoundLayer`.
    share : :class:`float`
        Of the frame's cycles, those of layers of that bound.
    trials : :class:`tuple` of :class:`Trial`
        The fastest first.
    """

    bound: str
    share: float
    trials: tuple[Trial, ...]

    def __str__(self) -> str:
        worth = [f"{trial.field} {trial.value} would give {trial.speedup:.2f}x"
                 for trial in self.trials if trial.speedup >= _WORTH]
        tried = ", ".join(f"{trial.field} {trial.value}" for trial in self.trials)
        found = ", ".join(worth) or (f"nothing gained with {tried}" if tried else
                                     "nothing to change")
        return f"{_PHRASES[self.bound]} in {self.share:.0%} of the cycles: {found}"

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; see docs/cli.md for its fields."""
        return {"bound": self.bound, "share": self.share,
                "trials": [asdict(trial) for trial in self.trials]}


def advise(plan: Partition, estimate: Estimate, *, memory: MemoryTiming = MEMORY,
           progress: Callable[[str], None] | None = None) -> Advice:
    """Tries what may make a network faster; for each trial it is compiled once.

    Parameters
    ----------
    estimate : :class:`weft.runtime.estimate.Estimate`
        Of ``plan``, with ``memory``.
    progress : callable
        Told what is tried, in a few words.
    """
    frame = estimate.further
    cycles: Counter[str] = Counter()
    for layer in frame.layers:
        cycles[layer.bound] += layer.result.cycles
    bound = max(_PHRASES, key=lambda name: cycles[name])
    trials = []
    for field, value in _changes(estimate, bound):
        if field == "axi_data_width" and memory.rate is not None:
            continue    # the memory would be no faster
        if progress is not None:
            progress(f"Trying {field} {value}")
        try:
            config, batch = estimate.config, estimate.batch
            if field == "batch":
                batch = value
            else:
                config = config.replace(**{field: value})
            other = estimate_plan(plan, config, batch=batch, memory=memory)
        except WeftError:  # there is no such configuration, or the network does not fit it
            continue
        taken = other.further.cycles / batch
        trials.append(Trial(field=field, value=value, cycles=round(taken),
                            speedup=frame.cycles / estimate.batch / taken))
    return Advice(bound=bound, share=cycles[bound] / frame.cycles,
                  trials=tuple(sorted(trials, key=lambda trial: -trial.speedup)))


def _changes(estimate: Estimate, bound: str) -> list[tuple[str, int]]:
    """What may help, and how much of it."""
    # Activations that do not fit on the chip are written and read again; all else that is read are
    # constants, which the frames of a batch share.
    written, read = estimate.further.dram_write_bytes, estimate.further.dram_read_bytes
    match bound:
        case "matrix":
            fields = ["rows", "cols"]
        case "vector":
            fields = ["vector_taps", "rows"]
        case "latency":
            fields = ["batch"]
        case "rows":
            fields = []
        case _ if read > 2 * written:
            fields = ["axi_data_width", "weight_bytes", "batch"]
        case _:
            fields = ["axi_data_width", "activation_bytes"]
    return [(field, _BATCH * estimate.batch if field == "batch" else
             2 * getattr(estimate.config, field)) for field in fields]
