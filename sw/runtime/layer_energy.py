"""Energy of a frame, layer by layer, from the commands that ran."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from weft.compiler.activity import Activity, stream_activity

from .energy import EnergyTable, energy_pj
from .segment import Execution

__all__ = ["LayerEnergy", "frame_energy"]


@dataclass(frozen=True, kw_only=True)
class LayerEnergy:
    """What a layer takes; of a batch, all of its frames together.

    Attributes
    ----------
    name : :class:`str`
        Empty for what is of no layer: loads and stores of the graph's inputs.
    activity : :class:`~weft.compiler.activity.Activity`
        Counts of events; the fetch of a command is its layer's.
    parts_pj : :class:`dict`
        Picojoules by what takes them, see :func:`~weft.runtime.energy.energy_pj`.
    """

    name: str
    activity: Activity
    parts_pj: dict[str, float]

    @property
    def energy_uj(self) -> float:
        """Microjoules in all."""
        return sum(self.parts_pj.values()) / 1e6

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; see docs/cli.md for its fields."""
        return {"name": self.name, "energy_uj": self.energy_uj, "parts_pj": self.parts_pj,
                "activity": asdict(self.activity)}


def frame_energy(executions: Sequence[Execution], table: EnergyTable) -> list[LayerEnergy]:
    """Every layer of the executions of a frame or batch, in their order, and at the end what is of
    no layer."""
    found: list[LayerEnergy] = []
    others: list[Activity] = []
    for execution in executions:
        program, config = execution.program, execution.program.config
        frames = program.graph.frames
        of_layer: dict[int, list[Activity]] = {
            number: [] for number in range(0, len(program.layers), frames)}
        for info, activity in zip(execution.infos, stream_activity(config, execution.commands),
                                  strict=True):
            (others if info.layer is None else
             of_layer[info.layer - info.layer % frames]).append(activity)
        for number, parts in of_layer.items():
            total = Activity.sum(parts)
            found.append(LayerEnergy(name=program.layers[number].name, activity=total,
                                     parts_pj=energy_pj(total, config, table)))
    rest = Activity.sum(others)
    return [*found, LayerEnergy(name="", activity=rest, parts_pj=energy_pj(
        rest, executions[0].program.config, table))]
