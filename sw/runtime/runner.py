"""Frames through a session: the loop behind ``weft run`` and the digits program."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from weft.errors import InputError
from weft.errors.limits import check_frames
from weft.hw.isa.config import AcceleratorConfig

from .compare import Mismatch, Verifier
from .feeds import split_frames
from .session import Figures, InferenceSession

__all__ = ["Run", "random_frames", "run_frames"]


_RANDOM_BYTES = 8   # of an element: random numbers are made as float64


@dataclass(kw_only=True)
class Run:
    """Results and figures of a number of frames through a session.

    Parameters
    ----------
    model, device : :class:`str`
        As given to the session.
    config : :class:`AcceleratorConfig`
    outputs : list of arrays
        The graph's outputs, all frames of each in one array.
    cycles : list of :class:`int`
        Clock cycles of each frame, from doorbell to interrupt; of a batch, its share.
    batch : :class:`int`
        Frames of a batch.
    last : :class:`weft.runtime.session.Figures`
        Of the last frame, or the last batch as a whole.
    seconds : :class:`float`
        Wall time spent on the device.
    verified : :class:`bool`
        Whether the frames were compared with a golden implementation.
    differing, compared : :class:`int`
        Bytes that differ from it, of how many.
    golden : :class:`str`
        What they were compared with.
    first : (frame, :class:`weft.runtime.compare.Mismatch`) or :py:`None`
        The first difference: earliest frame, then earliest layer, then lowest element.
    caveats : tuple of :class:`str`
        See :class:`weft.runtime.compare.Verifier`.
    """

    model: str
    device: str
    config: AcceleratorConfig
    outputs: list[np.ndarray]
    cycles: list[int]
    last: Figures
    seconds: float
    batch: int = 1
    verified: bool = False
    differing: int = 0
    compared: int = 0
    golden: str = ""
    first: tuple[int, Mismatch] | None = None
    caveats: tuple[str, ...] = field(default=())

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one frame, as the network defines them."""
        return sum(layer.macs for layer in self.last.layers) // self.batch

    def utilization(self, macs: int, cycles: int) -> float:
        """As :meth:`AcceleratorConfig.utilization`."""
        return self.config.utilization(macs, cycles)

    @property
    def cycles_per_second(self) -> float:
        """Simulated clock cycles per second of wall time."""
        return sum(self.cycles) / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """A JSON-ready dictionary; see docs/cli.md for its fields."""
        first = None
        if self.first is not None:
            frame, mismatch = self.first
            first = {"frame": frame, "layer": mismatch.layer, "tensor": mismatch.tensor,
                     "index": list(mismatch.index), "expected": mismatch.expected,
                     "got": mismatch.got}
        return {
            "model": self.model,
            "device": self.device,
            "config": self.config.to_dict(),
            "frames": len(self.cycles),
            "batch": self.batch,
            "verified": self.verified,
            "mismatches": self.differing if self.verified else None,
            "compared_bytes": self.compared,
            "first_mismatch": first,
            "macs": self.macs,
            "cycles": self.cycles,
            "utilization": self.utilization(self.batch * self.macs, self.last.cycles),
            "layers": [{"name": layer.name, "op": layer.op, "engine": layer.engine,
                        "shape": list(layer.shape), "macs": layer.macs, "cycles": layer.cycles,
                        "engine_cycles": layer.engine_cycles}
                       for layer in self.last.layers],
            "counters": dict(self.last.counters),
            "dram_read_bytes": self.last.dram_read_bytes,
            "dram_write_bytes": self.last.dram_write_bytes,
            "sim_cycles_per_second": self.cycles_per_second,
        }


def run_frames(session: InferenceSession, inputs: Mapping[str, np.ndarray], *, model: str,
               device: str, verify: bool = False, layers: InferenceSession | None = None,
               progress: Callable[[str], None] | None = None,
               observe: Callable[[Figures], None] | None = None) -> Run:
    """Runs frames one after the other, or batch after batch.

    Parameters
    ----------
    session : :class:`weft.runtime.session.InferenceSession`
    inputs : :class:`dict`
        Arrays by input name; the first dimension counts frames. Types that the model's holds
        exactly, and other floating-point types, are converted.
    model, device : :class:`str`
        For the report.
    verify : :class:`bool`
        Compare the outputs of every frame with those of the model's golden implementation, which
        for ONNX is onnxruntime.
    layers : :class:`weft.runtime.session.InferenceSession`
        Compare the output of every layer too, as this session computes it. It is of the same
        graph, batch and states, and keeps tensors: storing them takes memory bandwidth, and on a
        session of their own they do not change the cycles that are reported.
    progress : callable
        Told what is being done, in a few words, before each frame or batch.
    observe : callable
        Given the figures of each frame or batch; of all but the last one nothing else is kept.

    Raises
    ------
    InputError
        If an input is missing, unknown, or of the wrong shape or type.
    """
    feeds = _convert(session, inputs)
    frames = session.check_inputs(feeds)
    verifier = Verifier(session.plan, layers=layers is not None) if verify else None
    outputs: list[list[np.ndarray]] = []
    cycles: list[int] = []
    differing = compared = 0
    first: tuple[int, Mismatch] | None = None
    seconds = 0.0
    single = split_frames(feeds, frames)
    for index in range(0, frames, session.batch):
        if progress is not None:
            speed = f", {sum(cycles) / seconds / 1000:,.0f} kcycles/s" if seconds else ""
            progress(f"frame {index + 1} of {frames}{speed}")
        group = single[index:index + session.batch]
        states = [session.get_state(number) for number in range(len(group))]
        start = time.perf_counter()
        last, results, _ = _run(session, group)
        seconds += time.perf_counter() - start
        if observe is not None:
            observe(last)
        cycles += [round(last.cycles / session.batch)] * len(group)
        outputs += results
        if verifier is not None:
            tensors = [{}] * len(group) if layers is None else _run(layers, group, tensors=True)[2]
            for number, frame in enumerate(group):
                check = verifier.check({**frame, **states[number]}, results[number],
                                       tensors[number])
                differing += check.count
                compared += check.total
                if first is None and check.mismatches:
                    first = index + number, check.mismatches[0]
    return Run(model=model, device=device, config=session.config,
               outputs=[np.concatenate(values) for values in zip(*outputs, strict=True)],
               cycles=cycles, last=last, seconds=seconds, batch=session.batch, verified=verify,
               differing=differing, compared=compared, first=first,
               golden=verifier.golden if verifier is not None else "",
               caveats=verifier.caveats if verifier is not None else ())


def _run(session: InferenceSession, group: Sequence[Mapping[str, np.ndarray]], *,
         tensors: bool = False) \
        -> tuple[Figures, list[list[np.ndarray]], list[dict[str, np.ndarray]]]:
    """Figures, and outputs and tensors of each frame, of a group of at most a batch."""
    if session.batch == 1:
        frame = session.run_frame(group[0], tensors=tensors)
        return frame, [frame.outputs], [frame.tensors]
    batch = session.run_batch(group, tensors=tensors)
    return batch, batch.outputs, batch.tensors


def random_frames(session: InferenceSession, count: int, *, seed: int = 0) \
        -> dict[str, np.ndarray]:
    """``count`` frames of random input, spread evenly over what the input quantizer can hold.

    Raises
    ------
    InputError
        If ``count`` is not positive, or above 1 for a model whose batch dimension is not 1, or
        more than there is memory for; or if ``seed`` is negative.
    """
    if count < 1:
        raise InputError(f"Number of random frames must be at least 1, not {count}")
    if seed < 0:
        raise InputError(f"Seed must be at least 0, not {seed}")
    check_frames(count, sum(_RANDOM_BYTES * prod(info.shape) for info in
                            (*session.get_inputs(), *session.get_outputs())), InputError)
    rng = np.random.default_rng(seed)
    infos = session.get_inputs()
    graph = session.graph if session.programs else None
    edges = graph.inputs if graph is not None else ()
    places = {info.name: position for position, info in enumerate(session.plan.model.inputs)}
    frames = {}
    for info in infos:
        if info.shape[:1] == [1]:
            shape = (count, *info.shape[1:])
        elif count == 1:
            shape = tuple(info.shape)
        else:
            raise InputError(f"Number of random frames must be 1 for a model without a batch "
                             f"dimension of 1, not {count}")
        if info.dtype.kind in "iu":
            limits = np.iinfo(info.dtype)
            frames[info.name] = rng.integers(limits.min, limits.max, shape, info.dtype,
                                             endpoint=True)
            continue
        low, high = -1.0, 1.0
        if graph is not None and len(edges) == len(places):
            tensor = graph.tensors[edges[places[info.name]].tensor]
            low, high = (tensor.scale * (bound - tensor.zero_point) for bound in (-128, 127))
        frames[info.name] = rng.uniform(low, high, shape).astype(info.dtype)
    return frames


def _convert(session: InferenceSession, inputs: Mapping[str, np.ndarray]) \
        -> dict[str, np.ndarray]:
    """Inputs in the model's types, where nothing but precision can be lost."""
    wanted = {info.name: info.dtype for info in session.get_inputs()}
    feeds = {}
    for name, values in inputs.items():
        dtype = wanted.get(name, values.dtype)
        if np.can_cast(values.dtype, dtype) or values.dtype.kind == dtype.kind == "f":
            values = values.astype(dtype, copy=False)
        feeds[name] = values
    return feeds
