"""Networks of all kinds: what of them the accelerator runs, whether it is exact, how fast it is."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from weft.bench.records import FORMAT, read_record
from weft.errors import InputError, WeftError
from weft.files.output import write_text
from weft.hw.isa.config import AcceleratorConfig
from weft.ir import Where
from weft.runtime.device.choice import choose_device
from weft.runtime.placing import place
from weft.runtime.runner import random_frames, run_frames
from weft.runtime.session import InferenceSession

from .inspection import inspect_plan

__all__ = ["SURVEY", "OnHost", "SurveyedNetwork", "load_survey", "merge_survey", "save_survey",
           "survey"]


SURVEY = Path("benchmarks/networks.json")
"""In the project's folder."""

@dataclass(frozen=True, kw_only=True)
class OnHost:
    """Nodes of one operator that the host runs between accelerated ones.

    Attributes
    ----------
    op : :class:`str`
    count : :class:`int`
    reason : :class:`str`
        Of the first one.
    """

    op: str
    count: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class SurveyedNetwork:
    """How a network runs.

    Attributes
    ----------
    network : :class:`str`
        Its file, without folder.
    config, device : :class:`str`
    refused : :class:`str`
        Why it does not run at all; all below counts nothing then.
    warning : :class:`str`
        Why the host runs all of it; empty if it does not.
    nodes, accelerated : :class:`int`
        That compute something from the inputs; those of them on the accelerator.
    macs, host_macs : :class:`int`
        Multiply-accumulates of a frame, on the accelerator and on the host.
    parts : :class:`int`
        Accelerated graphs, between which the host works.
    host : tuple of :class:`OnHost`
        But for quantizing and dequantizing, and rearranging and softmax at the edges.
    frames : :class:`int`
        Of random input.
    differing, compared : :class:`int`
        Bytes of the outputs that differ from the golden implementation's, of how many.
    golden : :class:`str`
    cycles : :class:`int`
        Of a frame, all parts together; the first one, which loads all constants. 0 if the device
        counts none.
    utilization : :class:`float`
        Of the array, in these cycles.
    """

    network: str
    config: str
    device: str
    refused: str = ""
    warning: str = ""
    nodes: int = 0
    accelerated: int = 0
    macs: int = 0
    host_macs: int = 0
    parts: int = 0
    host: tuple[OnHost, ...] = field(default=())
    frames: int = 0
    differing: int = 0
    compared: int = 0
    golden: str = ""
    cycles: int = 0
    utilization: float = 0.0

    @property
    def share(self) -> float:
        """Of the multiply-accumulates, those on the accelerator."""
        return self.macs / ((self.macs + self.host_macs) or 1)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The inverse of :func:`dataclasses.asdict`."""
        host = tuple(OnHost(**each) for each in values["host"])
        return cls(**{**values, "host": host})


def survey(model: Path, config: AcceleratorConfig, *, device: str = "verilator", frames: int = 2,
           progress: Callable[[str], None] | None = None) -> SurveyedNetwork:
    """Runs a network on random frames and compares every byte of its outputs.

    Parameters
    ----------
    model : path
    config : :class:`AcceleratorConfig`
    device : :class:`str`
        As of a session.
    frames : :class:`int`
    progress : callable
        Told what is being done, in a few words.

    Raises
    ------
    InputError
        If there is no such device, or no frame to run. What is wrong with the network is told in
        the result.
    """
    if frames < 1:
        raise InputError(f"Number of random frames must be at least 1, not {frames}")
    choose_device(device)
    nothing = SurveyedNetwork(network=model.name, config=config.name, device=device)
    try:
        plan = place(model, config)
        inspection = inspect_plan(plan, config)
        with InferenceSession(plan, config=config, device=device, progress=progress) as session:
            run = run_frames(session, random_frames(session, frames), model=model.name,
                             device=device, verify=True)
    except WeftError as error:
        return replace(nothing, refused=str(error))
    groups: dict[str, list[str]] = {}
    for placement in inspection.fallbacks:
        groups.setdefault(placement.op, []).append(placement.reason)
    return replace(
        nothing, warning=plan.warning, nodes=len(plan.placements),
        accelerated=sum(each.where is Where.ACCELERATOR for each in plan.placements),
        macs=run.macs, host_macs=inspection.host_macs, parts=len(plan.graphs),
        host=tuple(OnHost(op=op, count=len(reasons), reason=reasons[0])
                   for op, reasons in groups.items()),
        frames=frames, differing=run.differing, compared=run.compared, golden=run.golden,
        cycles=run.cycles[0], utilization=round(config.utilization(run.macs, run.cycles[0]), 4))


def load_survey(path: Path = SURVEY) -> list[SurveyedNetwork]:
    """What was recorded.

    Raises
    ------
    InputError
        If the file cannot be read, or is none of ours.
    """
    return read_record(path, "networks", SurveyedNetwork.from_dict, what="Record",
                       program="weft survey")


def merge_survey(recorded: Iterable[SurveyedNetwork], surveyed: Sequence[SurveyedNetwork]) \
        -> list[SurveyedNetwork]:
    """What was recorded with what is new in its place, sorted by name."""
    fresh = {(each.network, each.config) for each in surveyed}
    kept = [each for each in recorded if (each.network, each.config) not in fresh]
    return sorted([*kept, *surveyed], key=lambda each: (each.network, each.config))


def save_survey(networks: Iterable[SurveyedNetwork], path: Path) -> None:
    """Writes a record, a network in a line, to be read with :func:`load_survey`."""
    lines = ",\n".join(json.dumps(asdict(each)) for each in networks)
    write_text(path, f'{{"format": {FORMAT}, "networks": [\n{lines}\n]}}\n')
