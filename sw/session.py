"""Inference on the accelerator, with the interface of onnxruntime."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnx
import onnxruntime

from weft import compiler, layout
from weft.compiler import Program
from weft.config import AcceleratorConfig, load_config
from weft.device import Device, DeviceStopped, Driver, EventKind, RunResult
from weft.errors import InputError
from weft.golden import session_options
from weft.hw.commands import Engine
from weft.hw.registers import Counter
from weft.ir import Graph, Tensor

__all__ = ["InferenceSession", "FrameResult", "LayerResult", "NodeArg", "DeviceFactory"]


DeviceFactory = Callable[..., Device]
"""Called with a configuration, ``memory_bytes`` by keyword and the session's device options."""


@dataclass(frozen=True, kw_only=True)
class NodeArg:
    """An input or output of a model, as onnxruntime describes it.

    Attributes
    ----------
    name : :class:`str`
    shape : :class:`list` of :class:`int`
        Of one frame, batch dimension included.
    type : :class:`str`
        Such as ``tensor(float)``.
    """

    name: str
    shape: list[int]
    type: str
    dtype: np.dtype[Any] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class LayerResult:
    """A layer of one frame.

    Attributes
    ----------
    name, op, engine : :class:`str`
        The ONNX node, its operator, and what computed it.
    shape : (C, H, W)
        Of its output.
    macs : :class:`int`
        Multiply-accumulates of the network.
    cycles : :class:`int`
        From the end of the layer before it to its own end; the first counts from the doorbell and
        the last to the interrupt. 0 on a device without a clock.
    """

    name: str
    op: str
    engine: str
    shape: tuple[int, int, int]
    macs: int
    cycles: int


@dataclass(frozen=True, kw_only=True)
class FrameResult:
    """What one frame came to.

    Attributes
    ----------
    outputs : list of arrays
        The model's outputs, in order.
    tensors : :class:`dict`
        If asked for: the output of every layer, by ONNX name, in ONNX type and shape.
    cycles : :class:`int`
        From doorbell to interrupt.
    layers : list of :class:`LayerResult`
        Their cycles add up to ``cycles``.
    counters : :class:`dict`
        Performance counters by name, in lower case.
    dram_read_bytes, dram_write_bytes : :class:`int`
        Traffic of the memory port: whole beats, commands included.
    """

    outputs: list[np.ndarray]
    tensors: dict[str, np.ndarray]
    cycles: int
    layers: list[LayerResult]
    counters: dict[str, int]
    dram_read_bytes: int
    dram_write_bytes: int


class InferenceSession(AbstractContextManager["InferenceSession"]):
    """A model, compiled and loaded on a device.

    Parameters
    ----------
    model : path, :class:`onnx.ModelProto` or :class:`weft.ir.Graph`
    config : :class:`str` or :class:`AcceleratorConfig`
        A configuration, or what :func:`weft.config.load_config` takes.
    device : :class:`str` or callable
        ``"verilator"``, ``"functional"``, or a factory of devices.
    keep_tensors : :class:`bool`
        Store the output of every layer to external memory, for :meth:`run_frame` to return. The
        stores run beside the computation, but take memory bandwidth.
    trace : path
        Waveform to write; only on the verilator device.
    progress : callable
        Told what is being prepared, in a few words.
    timeout_cycles : :class:`int`
        Longest frame; without it only the device's watchdog ends a frame that hangs.
    options
        Passed on to the device: for verilator ``latency``, ``bandwidth``, ``stall_probability``
        and ``seed``, for functional ``seed``.

    Attributes
    ----------
    config : :class:`AcceleratorConfig`
    graph : :class:`weft.ir.Graph`
    program : :class:`weft.compiler.Program`
    device : :class:`weft.device.Device`

    Raises
    ------
    ModelError, CompileError
        If the model is not supported, or does not fit the configuration.
    InputError
        If there is no such device, or it has no such option.
    """

    def __init__(self, model: str | Path | onnx.ModelProto | Graph, *,
                 config: str | AcceleratorConfig = "base",
                 device: str | DeviceFactory = "verilator", keep_tensors: bool = False,
                 trace: str | Path | None = None,
                 progress: Callable[[str], None] | None = None,
                 timeout_cycles: int | None = None, **options: Any):
        self.config = config if isinstance(config, AcceleratorConfig) else load_config(config)
        self._factory, extra = _find_device(device, trace, progress)
        self._options = {**options, **extra}
        self._timeout_cycles = timeout_cycles
        if isinstance(model, Graph):
            self.graph = model
        else:
            from weft.frontend import load_graph
            self.graph = load_graph(model)
        self._inputs = _describe(self.graph.model.graph.input, self.graph.model)
        self._outputs = _describe(self.graph.model.graph.output, self.graph.model)
        self._shapes = _shapes(self.graph.model)
        self._prefix = None if self.graph.prefix is None else _HostModel(self.graph.prefix)
        self._suffix = None if self.graph.suffix is None else _HostModel(self.graph.suffix)
        self._open(keep_tensors)

    def _open(self, keep_tensors: bool) -> None:
        self._keep_tensors = keep_tensors
        self.program: Program = compiler.compile(self.graph, self.config,
                                                 keep_tensors=keep_tensors)
        try:
            self.device: Device = self._factory(
                self.config, memory_bytes=self.program.memory_bytes, **self._options)
        except TypeError as error:
            if "unexpected keyword argument" in str(error):
                name = str(error).rpartition(" ")[2]
                raise InputError(f"Device has no option {name}") from None
            raise
        self._driver = Driver(self.device)
        for address, data in self.program.image:
            self.device.write_memory(address, data)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the device."""
        self.device.close()

    def get_inputs(self) -> list[NodeArg]:
        """The model's inputs."""
        return list(self._inputs)

    def get_outputs(self) -> list[NodeArg]:
        """The model's outputs."""
        return list(self._outputs)

    def run(self, output_names: Sequence[str] | None,
            input_feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Runs the model on one or more frames, one after the other.

        Parameters
        ----------
        output_names : list of :class:`str` or :py:`None`
            Outputs to return; all, if not given.
        input_feed : :class:`dict`
            Arrays by input name. Where the batch dimension of the model is 1, that of the arrays
            can be any number of frames.

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
        results = [self.run_frame({name: values[index:index + 1] if frames > 1 else values
                                   for name, values in input_feed.items()}).outputs
                   for index in range(frames)]
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
            If a name, shape or type is wrong.
        DeviceError
            If the device stops or does not come to an end.
        """
        frames = self.check_inputs(feeds)
        if frames != 1:
            raise InputError(f"Inputs must hold one frame, not {frames}")
        if tensors and not self._keep_tensors:
            self.close()
            self._open(keep_tensors=True)
        self._write_inputs(feeds)
        try:
            result = self._driver.run(self.program.command_address, self.program.count,
                                      commands=self.program.commands,
                                      timeout_cycles=self._timeout_cycles)
        except DeviceStopped:
            self._driver.reset()  # the next frame may go better
            raise
        beat = self.config.axi_bytes
        return FrameResult(
            outputs=self._read_outputs(feeds),
            tensors=self._read_tensors() if tensors else {},
            cycles=result.cycles, layers=self._layers(result),
            counters={counter.name.lower(): value for counter, value in result.counters.items()},
            dram_read_bytes=result.counters[Counter.READ_BEATS] * beat,
            dram_write_bytes=result.counters[Counter.WRITE_BEATS] * beat)

    # One frame --------------------------------------------------------------------------------

    def check_inputs(self, feeds: Mapping[str, np.ndarray]) -> int:
        """Checks names, shapes and types of all inputs; returns the number of frames."""
        names = [info.name for info in self._inputs]
        if set(feeds) != set(names):
            raise InputError(f"Inputs must be {', '.join(names)}, "
                             f"not {', '.join(feeds) or 'none'}")
        counts = {}
        for info in self._inputs:
            values, batched = feeds[info.name], info.shape[:1] == [1]
            if not isinstance(values, np.ndarray):
                raise InputError(f"Input '{info.name}' must be an array, "
                                 f"not {type(values).__name__}")
            if values.dtype != info.dtype:
                raise InputError(f"Input '{info.name}' must be {info.dtype}, not {values.dtype}")
            sizes = ["frames", *map(str, info.shape[1:])] if batched else map(str, info.shape)
            if list(values.shape[batched:]) != info.shape[batched:]:
                raise InputError(f"Input '{info.name}' must have shape [{', '.join(sizes)}], "
                                 f"not {list(values.shape)}")
            counts[info.name] = len(values) if batched else 1
        if len(set(counts.values())) > 1:
            text = ", ".join(f"'{name}' {count}" for name, count in counts.items())
            raise InputError(f"Inputs must hold the same number of frames, not {text}")
        frames = next(iter(counts.values()), 1)
        if frames < 1:
            raise InputError("Inputs must hold at least one frame, not 0")
        return frames

    def _write_inputs(self, feeds: Mapping[str, np.ndarray]) -> None:
        values = dict(feeds)
        if self._prefix is not None:
            values.update(self._prefix.run(values))
        slots = {slot.tensor: slot for slot in self.program.inputs}
        for edge in self.graph.inputs:
            if edge.tensor in slots:
                packed = layout.pack_tensor(self.config,
                                            self.graph.enter(edge, values[edge.onnx_name]))
                self.device.write_memory(slots[edge.tensor].address, packed)

    def _read(self, slot: compiler.Slot) -> np.ndarray:
        raw = self.device.read_memory(slot.address, slot.size)
        return layout.unpack_tensor(self.config, raw, self.graph.tensors[slot.tensor].shape)

    def _read_outputs(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        values = dict(feeds)
        for edge, slot in zip(self.graph.outputs, self.program.outputs, strict=True):
            values[edge.onnx_name] = self.graph.leave(edge, self._read(slot))
        if self._suffix is not None:
            values.update(self._suffix.run(values))
        return [values[info.name] for info in self._outputs]

    def _read_tensors(self) -> dict[str, np.ndarray]:
        stored = {slot.tensor: slot for slot in (*self.program.outputs, *self.program.kept)}
        tensors = {}
        for layer in self.graph.layers:
            tensor = self.graph.tensors[layer.output]
            tensors[tensor.name] = self._to_onnx(tensor, self._read(stored[layer.output]))
        return tensors

    def _to_onnx(self, tensor: Tensor, values: np.ndarray) -> np.ndarray:
        flat = values.reshape(-1)
        if tensor.order is not None:
            ordered = np.empty_like(flat)
            ordered[tensor.order] = flat
            flat = ordered
        if tensor.unsigned:
            flat = flat.view(np.uint8) ^ np.uint8(128)
        return flat.reshape(self._shapes.get(tensor.name, (1, *tensor.shape)))

    def _layers(self, result: RunResult) -> list[LayerResult]:
        """Every layer's share of the cycles, by the end of its last matrix command."""
        ends = {event.index: event.cycle for event in result.events
                if event.kind == EventKind.DONE and event.engine is Engine.MATRIX}
        layers, before = [], 0
        for number, info in enumerate(self.program.layers):
            done = [ends[index] for index in info.commands if index in ends]
            end = max(done, default=before)
            if number == len(self.program.layers) - 1:
                end = result.cycles
            layers.append(LayerResult(name=info.name, op=info.op, engine=info.engine.name.lower(),
                                      shape=info.shape, macs=info.macs, cycles=end - before))
            before = end
        return layers


class _HostModel:
    """A part of the model that onnxruntime runs."""

    def __init__(self, model: onnx.ModelProto):
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), session_options(), providers=["CPUExecutionProvider"])
        self._inputs = [info.name for info in self._session.get_inputs()]
        self._outputs = [info.name for info in self._session.get_outputs()]

    def run(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Its outputs by name, for ``values`` among which its inputs are."""
        results = self._session.run(self._outputs, {name: values[name] for name in self._inputs})
        return dict(zip(self._outputs, results, strict=True))


def _find_device(device: str | DeviceFactory, trace: str | Path | None,
                 progress: Callable[[str], None] | None) -> tuple[DeviceFactory, dict[str, Any]]:
    """The factory of a device, and the options that go to it from the session's arguments."""
    if device == "verilator":
        from weft.device.verilator import VerilatorDevice
        return VerilatorDevice, {"trace": trace, "progress": progress}
    if device == "functional":
        from weft.device.functional import FunctionalDevice
        if trace is not None:
            raise InputError("A waveform needs the verilator device: the functional one has no "
                             "signals")
        return FunctionalDevice, {}
    if isinstance(device, str) or not callable(device):
        raise InputError(f"Device must be 'verilator', 'functional' or a callable, "
                         f"not {device!r}")
    return device, {} if trace is None else {"trace": trace}


def _dims(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """Shape of a tensor; a symbolic dimension is a batch of one frame."""
    return tuple(dim.dim_value if dim.HasField("dim_value") else 1
                 for dim in value.type.tensor_type.shape.dim)


def _describe(values: Sequence[onnx.ValueInfoProto], model: onnx.ModelProto) -> list[NodeArg]:
    constants = {tensor.name for tensor in model.graph.initializer}
    infos = []
    for value in values:
        if value.name in constants:
            continue
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        kind = {"float32": "float", "float64": "double"}.get(dtype.name, dtype.name)
        infos.append(NodeArg(name=value.name, shape=list(_dims(value)), type=f"tensor({kind})",
                             dtype=dtype))
    return infos


def _shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """ONNX shapes of the tensors inside the model, as far as inference found them."""
    return {value.name: _dims(value)
            for value in (*model.graph.value_info, *model.graph.output, *model.graph.input)
            if value.type.tensor_type.HasField("shape")}
