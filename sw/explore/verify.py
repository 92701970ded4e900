"""Proof of points: their networks on the simulated hardware, and their bitstreams.

Each network of each point is a task, and so is each placement; a worker keeps the simulators that
it builds in its cache, so one that comes again is found there.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from weft.boards.flow.bitstream import build
from weft.boards.registry import find_board
from weft.cluster import Cluster
from weft.errors import WeftError
from weft.hw.isa.config import AcceleratorConfig
from weft.runtime.runner import random_frames, run_frames
from weft.runtime.session import Figures, InferenceSession

from .points import Point
from .trial import Network, plan_of

__all__ = ["RtlProof", "verify_build", "verify_rtl"]


@dataclass(frozen=True, kw_only=True)
class RtlProof:
    """A network on the simulated hardware of a point.

    Attributes
    ----------
    network : :class:`str`
    differing, compared : :class:`int`
        Bytes of the outputs that differ from the golden implementation's, of how many.
    first, further : :class:`int`
        Cycles of the first frame, and of the one behind it.
    failure : :class:`str`
        Why it did not run at all.
    """

    network: str
    differing: int = 0
    compared: int = 0
    first: int = 0
    further: int = 0
    failure: str = ""


@dataclass(frozen=True, kw_only=True)
class _RtlJob:
    config: dict[str, Any]
    network: Network


def _prove(job: _RtlJob) -> RtlProof:
    """Two random frames: the second finds its weights on the chip, if they fit."""
    frames: list[Figures] = []
    try:
        with InferenceSession(plan_of(job.network),
                              config=AcceleratorConfig(**job.config)) as session:
            run = run_frames(session, random_frames(session, 2), model=job.network.name,
                             device="verilator", verify=True, observe=frames.append)
    except WeftError as error:
        return RtlProof(network=job.network.name, failure=str(error))
    return RtlProof(network=job.network.name, differing=run.differing, compared=run.compared,
                    first=frames[0].cycles, further=frames[1].cycles)


def verify_rtl(points: Sequence[Point], networks: Sequence[Network], cluster: Cluster,
               progress: Callable[[str], None], keep: Callable[[list[Point]], None]) -> list[Point]:
    """The points with what their networks did on RTL, the smallest first.

    Parameters
    ----------
    keep : callable
        Given all points whenever another one is done: a proof takes minutes.
    """
    order = sorted(points, key=lambda point: point.config.macs_per_cycle)
    results = cluster.map(_prove, [_RtlJob(config=point.config.to_dict(), network=network)
                                   for point in order for network in networks])
    found = {point.name: point for point in points}
    for done, point in enumerate(order):
        progress(f"RTL: {done} of {len(order)} points are done")
        proofs = [next(results) for _ in networks]
        found[point.name] = replace(point, proofs={**point.proofs, "rtl": _rtl(point, proofs)})
        keep(list(found.values()))
    return list(found.values())


def _rtl(point: Point, proofs: Sequence[RtlProof]) -> dict[str, Any]:
    differing, compared = (sum(getattr(proof, name) for proof in proofs)
                           for name in ("differing", "compared"))
    failure = next((proof.failure for proof in proofs if proof.failure), "")
    off = [actual / told - 1 for proof, figures in zip(proofs, point.trial.outcome.networks,
                                                       strict=True)
           for actual, told in ((proof.first, figures.first), (proof.further, figures.further))]
    worst = max(off, key=abs)
    return {"exact": not differing and not failure, "differing": differing, "compared": compared,
            "worst_cycles": worst, "networks": [asdict(proof) for proof in proofs],
            "text": failure or f"{differing:,} of {compared:,} bytes differ; cycles {worst:+.2%}"}


def verify_build(points: Sequence[Point], board: str, folder: Path, cluster: Cluster, *,
                 seeds: int, progress: Callable[[str], None],
                 keep: Callable[[list[Point]], None]) -> list[Point]:
    """The points with what their bitstreams reached, built one after the other, their placements
    side by side.

    Parameters
    ----------
    folder : path
        For a folder of each point.
    seeds : :class:`int`
        Placements of each, of which the fastest counts.
    """
    found = {point.name: point for point in points}
    for point in sorted(points, key=lambda each: each.config.macs_per_cycle):
        outcome = point.trial.outcome
        assert outcome.used is not None

        def tell(text: str, name: str = point.name) -> None:
            progress(f"Build of {name}: {text}")

        try:
            built = build(replace(find_board(board), config=point.config), folder / point.name,
                          seeds=seeds, cluster=cluster, progress=tell)
        except WeftError as error:
            result: dict[str, Any] = {"met": False, "failure": str(error), "text": str(error)}
        else:
            result = {
                "met": built.met, "asked_mhz": built.asked_mhz, "clock_mhz": built.clock_mhz,
                "used": asdict(built.used), "seeds": [asdict(route) for route in built.routes],
                "text": f"{built.clock_mhz:.1f} MHz ({built.clock_mhz / outcome.clock_mhz - 1:+.1%}"
                        f"), {built.used.luts:,} LUTs "
                        f"({built.used.luts / outcome.used.luts - 1:+.1%})"}
        found[point.name] = replace(point, proofs={**point.proofs, "build": result})
        keep(list(found.values()))
    return list(found.values())
