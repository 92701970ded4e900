"""Inference on the accelerator, with the interface of onnxruntime."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from weft import compiler
from weft.boards.board import Board
from weft.compiler import Program, SplitSearch
from weft.compiler.batch import check_batch
from weft.compiler.timing.memory import MEMORY, MemoryTiming
from weft.errors import CompileError, HostOnlyWarning, InputError, OtherDesignWarning
from weft.errors.limits import check_arrays
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.presets import load_config
from weft.ir import Graph, HostPart, Partition
from weft.reference.model import whole
from weft.runtime.device.choice import DeviceFactory, choose_device

from .device import WATCHDOG_CYCLES, Device, DeviceStopped, Driver
from .feeds import NodeArg, count_frames, split_frames
from .loading import load_programs
from .segment import Figures, GraphResult, LayerResult, LoadedGraph, LoadedHostPart
from .states import States

__all__ = ["InferenceSession", "BatchResult", "FrameResult", "Figures", "LayerResult", "NodeArg",
           "DeviceFactory"]


@dataclass(frozen=True, kw_only=True)
class FrameResult(Figures):
    """Results and figures of one frame.

    Attributes
    ----------
    outputs : list of arrays
        The model's outputs, in order.
    tensors : :class:`dict`
        If asked for: the output of every layer, by the model's names, in its types and shapes.
    """

    outputs: list[np.ndarray]
    tensors: dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class BatchResult(Figures):
    """Results and figures of the frames of a batch. All figures are for the whole batch.

    Attributes
    ----------
    outputs, tensors : list
        For each frame, what they are in :class:`FrameResult`.
    """

    outputs: list[list[np.ndarray]]
    tensors: list[dict[str, np.ndarray]]


class InferenceSession(AbstractContextManager["InferenceSession"]):
    """A model, compiled and loaded on a device.

    Parameters
    ----------
    model : path, model in memory, :class:`weft.ir.Graph` or :class:`weft.ir.Partition`
        A file or model of any format that there is a front end for, such as an
        :class:`onnx.ModelProto`; or what is left to do after one.
    config : :class:`str` or :class:`AcceleratorConfig`
        A configuration, or what :func:`weft.hw.isa.presets.load_config` takes. By default that of
        the board, where there is one, else ``"base"``.
    device : :class:`str` or callable
        ``"verilator"``, ``"functional"``, ``"serial:PORT"`` or ``"board-sim:BOARD"`` (see
        :mod:`weft.runtime.device.choice`), or a factory of devices.
    keep_tensors : :class:`bool`
        Store the output of every layer to external memory, for :meth:`run_frame` to return. The
        stores run beside the computation, but take memory bandwidth.
    batch : :class:`int`
        Frames that are computed together, layer by layer: constants that are loaded once serve
        them all. Saves memory traffic where not all constants of a model fit on the chip, but
        a frame is not done before the whole batch is.
    states : mapping of :class:`str`
        Outputs that are inputs of the next frame, such as ``{"h_out": "h_in", "c_out": "c_in"}``:
        the session keeps them, and its inputs are all others. The frames of a batch are of
        as many streams side by side, each with states of its own. They begin with real zero. By
        default those that the model itself names, as ``weft stream`` writes them.
    rule : :class:`str`
        How sums become int8 values, where the format knows several rules; see
        :func:`weft.frontend.partition`.
    trace : path
        Waveform to write; only on the verilator device.
    progress : callable
        Told what is being prepared, in a few words.
    search : :class:`weft.compiler.SplitSearch`
        How long the compiler looks for the best commands; see there.
    board : :class:`weft.boards.board.Board`
        The board at a serial port, where the device does not name it. What it holds must have been
        built from the configuration by this release of Weft.
    other_design : :class:`bool`
        If it was not, and yet has that configuration, warn and go on.
    memory : :class:`weft.compiler.timing.memory.MemoryTiming`
        The external memory that the compiler looks for the best commands for. By default that of
        the board, where there is one, else that of the simulator.
    timeout_cycles : :class:`int`
        Longest frame; without it only the device's own limits end a frame that hangs.
    watchdog_cycles : :class:`int`
        See :class:`weft.runtime.device.Driver`.
    options
        Passed on to the device: for verilator ``latency``, ``bandwidth``, ``stall_probability``
        and ``seed``, for functional ``seed``.

    Attributes
    ----------
    config : :class:`AcceleratorConfig`
    plan : :class:`weft.ir.Partition`
        What runs where.
    programs : :class:`tuple` of :class:`weft.compiler.Program`
        One for each accelerated graph of it, side by side in external memory; each computes
        all frames of a batch.
    batch : :class:`int`
    sent : :class:`bool`
        The programs were sent to the device; a board may have had them already.
    design_warning : :class:`str`
        That the board was built from something else, if it was and yet is used.

    Raises
    ------
    ModelError, CompileError
        If the model is not supported, or does not fit the configuration.
    InputError
        If there is no such device, or it has no such option; or for a batch of no frames.
    DeviceError
        If the device is not what it is meant to be: a
        :class:`~weft.runtime.device.design.OtherDesign` if a board has the configuration, but was
        built from something else.

    Warns
    -----
    HostOnlyWarning
        If nothing of the model runs on the accelerator. Then there is no device, and the host runs
        all of it.
    OtherDesignWarning
        With ``other_design``, in place of the error.
    """

    def __init__(self, model: object, *,
                 config: str | AcceleratorConfig | None = None,
                 device: str | DeviceFactory = "verilator", keep_tensors: bool = False,
                 batch: int = 1, states: Mapping[str, str] | None = None,
                 rule: str | None = None, trace: str | Path | None = None,
                 progress: Callable[[str], None] | None = None,
                 search: SplitSearch | None = None, board: Board | None = None,
                 other_design: bool = False, memory: MemoryTiming | None = None,
                 timeout_cycles: int | None = None,
                 watchdog_cycles: int = WATCHDOG_CYCLES, **options: Any):
        self.batch = check_batch(batch)
        choice = choose_device(device, trace=trace, progress=progress)
        board = board or choice.board
        if config is None:
            config = "base" if board is None else board.config
        self.config = config if isinstance(config, AcceleratorConfig) else load_config(config)
        self._factory = choice.factory
        self._options = {**options, **choice.options}
        self._search = search
        self._board = None if board is None else replace(board, config=self.config)
        self._other_design, self.design_warning = other_design, ""
        if memory is None:
            memory = MEMORY if board is None else board.memory_timing(self.config)
        self._memory = memory
        self._timeout_cycles = timeout_cycles
        self._watchdog_cycles = watchdog_cycles
        self.plan = _partition(model, self.config, rule)
        if self.plan.warning and self.plan is not model:
            warnings.warn(self.plan.warning, HostOnlyWarning, stacklevel=2)
        self._states = States(self.plan, self.plan.model.states if states is None else states,
                              self.batch)
        self._inputs = [NodeArg.of(info) for info in self.plan.model.inputs
                        if info.name not in self._states.inputs]
        self._outputs = list(map(NodeArg.of, self.plan.model.outputs))
        self._open(keep_tensors)

    def _open(self, keep_tensors: bool) -> None:
        self._keep_tensors = keep_tensors
        programs = self.programs = compiler.compile_parts(
            [compiler.batch(graph, self.batch) for graph in self.plan.graphs], self.config,
            keep_tensors=keep_tensors, search=self._search, memory=self._memory)
        self._driver = self._connect(programs[-1].memory_bytes) if programs else None
        self.sent = bool(programs) and load_programs(self.device, programs)
        self._resident: LoadedGraph | None = None  # its constants are on chip
        compiled = iter(programs)
        self._segments = [
            LoadedHostPart(segment) if isinstance(segment, HostPart)
            else LoadedGraph(segment, next(compiled), self._loaded)
            for segment in self.plan.segments]

    def _connect(self, memory_bytes: int) -> Driver:
        check_arrays(memory_bytes, f"External memory of {self.plan.name}", CompileError)
        try:
            device = self._factory(self.config, memory_bytes=memory_bytes, **self._options)
        except TypeError as error:
            if "unexpected keyword argument" in str(error):
                name = str(error).rpartition(" ")[2]
                raise InputError(f"Device has no option {name}") from None
            raise
        driver = Driver(device, watchdog_cycles=self._watchdog_cycles)
        self._check_design(device)
        return driver

    def _check_design(self, device: Device) -> None:
        """Before anything is sent to a board; its configuration the driver has looked at."""
        from .device.design import OtherDesign, check_design
        from .device.serial import SerialDevice

        if self._board is None or not isinstance(device, SerialDevice):
            return
        try:
            check_design(self._board, device)
        except OtherDesign as error:
            if not self._other_design:
                device.close()
                raise
            self.design_warning = str(error)
            warnings.warn(self.design_warning, OtherDesignWarning, stacklevel=5)

    @property
    def _loaded(self) -> Driver:
        self.plan.accelerated()
        assert self._driver is not None
        return self._driver

    @property
    def device(self) -> Device:
        """What the programs run on.

        Raises
        ------
        ModelError
            If there are none, as nothing of the model runs on the accelerator; here and below.
        """
        return self._loaded.device

    @property
    def graph(self) -> Graph:
        """The accelerated graph, of a model that has but one; else the first."""
        return self.plan.accelerated()[0]

    @property
    def program(self) -> Program:
        """The program of :attr:`graph`."""
        self.plan.accelerated()
        return self.programs[0]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the device."""
        if self._driver is not None:
            self._driver.device.close()

    def get_inputs(self) -> list[NodeArg]:
        """The model's inputs, without those that are states."""
        return list(self._inputs)

    def get_outputs(self) -> list[NodeArg]:
        """The model's outputs."""
        return list(self._outputs)

    @property
    def states(self) -> dict[str, str]:
        """The states that are kept: the output that makes each, and the input that reads it."""
        return dict(self._states.pairs)

    def get_state(self, stream: int = 0) -> dict[str, np.ndarray]:
        """The states that the next frame of a stream reads, by input name.

        Raises
        ------
        InputError
            If there is no such stream.
        """
        return self._states.of(stream)

    def reset_state(self, initial: Mapping[str, np.ndarray] | None = None, *,
                    stream: int | None = None) -> None:
        """Begins anew.

        Parameters
        ----------
        initial : mapping
            States by input name, of the model's own shapes, such as :meth:`get_state` has
            returned; real zero, which is the zero point of a quantized one, where not given.
        stream : :class:`int`
            The stream to reset; all, if not given.

        Raises
        ------
        InputError
            If there is no such stream or state, or a value has another shape or type.
        """
        self._states.reset(initial, stream)

    def run(self, output_names: Sequence[str] | None,
            input_feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Runs the model on one or more frames, one batch after the other.

        Parameters
        ----------
        output_names : list of :class:`str` or :py:`None`
            Outputs to return; all, if not given.
        input_feed : :class:`dict`
            Arrays by input name. Where the batch dimension of the model is 1, that of the arrays
            can be any number of frames. If the last batch is not full, its last frame takes the
            places that are left; with states it must be full.

        Returns
        -------
        list of arrays
            All frames of each output in one array.

        Raises
        ------
        InputError
            If a name, shape or type is wrong.
        """
        names = [info.name for info in self._outputs]
        for name in output_names or ():
            if name not in names:
                raise InputError(f"Output must be one of {', '.join(names)}, not {name}")
        frames = self.check_inputs(input_feed)
        if self.states and frames % self.batch:
            raise InputError(f"Inputs must hold a frame for each of {self.batch} streams in turn, "
                             f"not {frames} frames")
        feeds = split_frames(input_feed, frames)
        results = [outputs for first in range(0, frames, self.batch)
                   for outputs in self.run_batch(feeds[first:first + self.batch]).outputs]
        joined = [np.concatenate(values) if frames > 1 else values[0]
                  for values in zip(*results, strict=True)]
        return [joined[names.index(name)] for name in output_names or names]

    def run_frame(self, feeds: Mapping[str, np.ndarray], *, tensors: bool = False) -> FrameResult:
        """Runs the model on one frame, and tells how it went.

        Parameters
        ----------
        feeds : :class:`dict`
            Arrays by input name, of the model's own shapes.
        tensors : :class:`bool`
            Return the output of every layer too. If the session was not made with
            ``keep_tensors``, its program is compiled again, and stays as if it had been.

        Raises
        ------
        InputError
            If a name, shape or type is wrong, or the session runs frames in batches.
        DeviceError
            If the device stops or does not finish.
        """
        if self.batch != 1:
            raise InputError(f"Session must have a batch of 1 to run single frames, "
                             f"not {self.batch}")
        result = self.run_batch([feeds], tensors=tensors)
        figures = {each.name: getattr(result, each.name) for each in fields(Figures)}
        return FrameResult(outputs=result.outputs[0], tensors=result.tensors[0], **figures)

    def run_batch(self, feeds: Sequence[Mapping[str, np.ndarray]], *,
                  tensors: bool = False) -> BatchResult:
        """Runs the model on the frames of one batch, and tells how it went.

        Parameters
        ----------
        feeds : list of :class:`dict`
            For each frame, arrays by input name, of the model's own shapes. Where they are fewer
            than :attr:`batch`, the last one takes the places that are left; with states there is
            one for each stream.
        tensors : :class:`bool`
            As in :meth:`run_frame`.

        Returns
        -------
        :class:`BatchResult`
            With as many outputs as there are ``feeds``.

        Raises
        ------
        InputError
            If a name, shape or type is wrong, or there are too many frames, or none.
        DeviceError
            If the device stops or does not finish.
        """
        if not 1 <= len(feeds) <= self.batch:
            raise InputError(f"Batch must hold 1 to {self.batch} frames, not {len(feeds)}")
        if self.states and len(feeds) < self.batch:
            raise InputError(f"Batch must hold a frame for each of {self.batch} streams, "
                             f"not {len(feeds)}")
        for frame in feeds:
            count = self.check_inputs(frame)
            if count != 1:
                raise InputError(f"Inputs must hold one frame, not {count}")
        if tensors and not self._keep_tensors:
            self.close()
            self._open(keep_tensors=True)
        frames = [{**frame, **self._states.of(stream)} for stream, frame in enumerate(feeds)]
        results: list[GraphResult] = []
        for segment in self._segments:
            if isinstance(segment, LoadedHostPart):
                for values in frames:
                    values.update(segment.run(values))
                continue
            warm, self._resident = self._resident is segment, None
            try:
                full = [*frames, *frames[-1:] * (self.batch - len(frames))]
                result = segment.run(full, warm=warm, tensors=tensors,
                                     timeout_cycles=self._timeout_cycles)
            except DeviceStopped:
                self._loaded.reset()  # the next frames may go better
                raise
            self._resident = segment
            for values, found in zip(frames, result.values, strict=False):
                values.update(found)
            results.append(result)
        for stream, values in enumerate(frames):
            self._states.keep(stream, values)
        return BatchResult(
            outputs=[[values[info.name] for info in self._outputs] for values in frames],
            tensors=[{name: tensor for result in results
                      for name, tensor in result.tensors[index].items()}
                     for index in range(len(frames))],
            cycles=sum(result.cycles for result in results),
            layers=[layer for result in results for layer in result.layers],
            counters={name: sum(result.counters[name] for result in results)
                      for name in (results[0].counters if results else ())},
            dram_read_bytes=sum(result.dram_read_bytes for result in results),
            dram_write_bytes=sum(result.dram_write_bytes for result in results),
            warm=bool(results) and all(result.warm for result in results),
            executions=tuple(each for result in results for each in result.executions))

    # Inputs -----------------------------------------------------------------------------------

    def check_inputs(self, feeds: Mapping[str, np.ndarray]) -> int:
        """Checks names, shapes and types of all inputs; returns the number of frames."""
        return count_frames(self._inputs, feeds)


def _partition(model: object, config: AcceleratorConfig, rule: str | None) -> Partition:
    if isinstance(model, Partition):
        return model
    if isinstance(model, Graph):
        return whole(model)
    from .placing import place  # what it imports is slow to import

    return place(model, config, rule)
