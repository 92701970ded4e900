"""One network on one accelerator: the RTL, the functional device, the numpy reference and
onnxruntime must agree on every byte of every layer."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from graphs import in_fixed_point
from models import random_inputs, run_plan

from fuzz.networks.cases import CONFIGS, Case, Circumstances, quantized
from weft.compiler import Grain, SplitSearch
from weft.errors import CompileError, ModelError
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.registers import Register
from weft.ir import Convolution, Depthwise, Graph, Partition
from weft.reference.golden import cpu_is_exact
from weft.runtime.compare import Verifier
from weft.runtime.device.base import Device
from weft.runtime.device.functional import FunctionalDevice
from weft.runtime.device.verilator import VerilatorDevice
from weft.runtime.placing import place
from weft.runtime.session import InferenceSession

__all__ = ["Difference", "Passed", "Refused", "Twins", "check", "check_model"]


_TIMEOUT_CYCLES = 20_000_000
_WATCHDOG_CYCLES = 100_000  # a tenth of what is usual: the sooner a stop is found


class Refused(Exception):
    """The front end or the compiler says that the network cannot run."""


class Difference(Exception):
    """Bytes that are not what they should be, or a device that stops."""


@dataclass(frozen=True, kw_only=True)
class Passed:
    """What a case that passed came to: bytes compared with the reference, those of them that were
    compared with onnxruntime too, cycles of both runs, and how many commands each operator had on
    the accelerator, where it was computed by any; and whether all bytes were onnxruntime's, also
    those that float32 decides."""

    compared: int
    golden: int
    cycles: int
    commands: Counter[str]
    equal: bool


class Twins:
    """Two devices as one, that run the same commands: what is read is the first one's.

    Attributes
    ----------
    differences : list of :class:`str`
        Where the second gave something else.
    """

    def __init__(self, first: Device, second: Device):
        self._first, self._second = first, second
        self._both = (first, second)
        self.differences: list[str] = []

    @property
    def config(self) -> AcceleratorConfig:
        return self._first.config

    @property
    def memory_bytes(self) -> int:
        return self._first.memory_bytes

    def write_memory(self, address: int, data: bytes | bytearray | memoryview) -> None:
        for device in self._both:
            device.write_memory(address, data)

    def read_memory(self, address: int, count: int) -> bytes:
        data, other = (device.read_memory(address, count) for device in self._both)
        if data != other:
            at = next(index for index in range(count) if data[index] != other[index])
            self.differences.append(f"byte {address + at:#x} of memory is {data[at]} on the RTL "
                                    f"and {other[at]} on the functional device")
        return data

    def write_register(self, register: int, value: int) -> None:
        for device in self._both:
            device.write_register(register, value)

    def read_register(self, register: int) -> int:
        return self._first.read_register(register)

    def wait(self, timeout_cycles: int | None = None) -> None:
        for device in self._both:
            device.wait(timeout_cycles)
        data, other = (device.read_register(Register.ERROR) for device in self._both)
        if data != other:
            self.differences.append(f"error {data} on the RTL, {other} on the functional device")

    def events(self) -> Sequence[Any]:
        return self._first.events()

    def close(self) -> None:
        for device in self._both:
            device.close()


def _open(case: Circumstances, plan: Partition, *,
          rtl: bool) -> tuple[InferenceSession, list[Twins]]:
    config = CONFIGS[case.config]
    twins: list[Twins] = []

    def device(_config: AcceleratorConfig, *, memory_bytes: int) -> Device:
        functional = FunctionalDevice(config, memory_bytes=memory_bytes, seed=case.seed)
        if not rtl:
            return functional
        twins.append(Twins(
            VerilatorDevice(config, memory_bytes=memory_bytes, latency=case.latency,
                            stall_probability=case.stall_probability, seed=case.seed),
            functional))
        return twins[-1]

    search = None
    if case.grain is not None:
        matrix, vector = case.grain
        search = SplitSearch(grains=(Grain(matrix=matrix, vector=vector),), effort=0)
    session = InferenceSession(plan, config=config.replace(**case.memories), device=device,
                               keep_tensors=case.keep_tensors, batch=case.batch, search=search,
                               timeout_cycles=_TIMEOUT_CYCLES, watchdog_cycles=_WATCHDOG_CYCLES)
    return session, twins


def check(case: Case, *, rtl: bool = True) -> Passed:
    """Runs a case; see :func:`check_model`."""
    return check_model(quantized(case), case, rtl=rtl)


def check_model(model: onnx.ModelProto, case: Circumstances, *, rtl: bool = True) -> Passed:
    """Runs an int8 model: two batches, the second one on the constants that are on chip from the
    first.

    Parameters
    ----------
    rtl : :class:`bool`
        On the RTL and the functional device; else on the latter alone.

    Raises
    ------
    Refused
        With the reason.
    Difference
        With the first layer that differs. Any other exception is a defect, too.
    """
    try:
        plan = place(model, CONFIGS[case.config].replace(**case.memories))
        plan.accelerated()
        if case.tflite:
            plan = _in_fixed_point(plan, case)
    except ModelError as error:
        raise Refused(str(error)) from error
    try:
        session, twins = _open(case, plan, rtl=rtl)
    except CompileError as error:
        # A bias may have more bits than a rule of TensorFlow Lite has room for.
        if case.batch == 1 and not case.keep_tensors and not case.tflite:
            raise Difference(f"accepted, and then: {error}") from error
        raise Refused(str(error)) from error
    rng = np.random.default_rng(case.seed)
    total = golden = cycles = 0
    equal = True
    with session:
        checker = _Checker(plan, session, case)
        for _ in range(2):
            feeds = []
            for _ in range(case.batch):
                reach = np.float32(1 + 3 * rng.random())
                feeds.append({name: values * reach
                              for name, values in random_inputs(rng, plan.model.proto).items()})
            result = session.run_batch(feeds, tensors=case.keep_tensors)
            cycles += result.cycles
            for frame in range(case.batch):
                done = checker.check(feeds[frame], result.outputs[frame], result.tensors[frame])
                total, golden, equal = total + done[0], golden + done[1], equal and done[2]
            for pair in twins:
                if pair.differences:
                    raise Difference(pair.differences[0])
        if not total and checker.comparable:
            raise Difference("nothing was compared")
    commands = Counter[str]()
    for program in session.programs:
        for layer in program.layers:
            commands[layer.op] += len(layer.commands)
    return Passed(compared=total, golden=golden, cycles=cycles, commands=+commands,
                  equal=equal)


def _in_fixed_point(plan: Partition, case: Circumstances) -> Partition:
    """The same with rules of TensorFlow Lite, of which onnxruntime knows nothing."""
    rng = np.random.default_rng([case.seed, 2])
    return replace(plan, segments=tuple(
        in_fixed_point(rng, segment) if isinstance(segment, Graph) else segment
        for segment in plan.segments))


class _Checker:
    """Compares frames with the reference and onnxruntime, as far as either is exact."""

    def __init__(self, plan: Partition, session: InferenceSession, case: Circumstances):
        self._plan = plan
        self._tflite = case.tflite
        self._names = [info.name for info in session.get_outputs()]
        self._verifier = Verifier(plan, layers=case.keep_tensors)
        # The sum, product or average of some scales has inputs at which float32 decides.
        inexact = {layer.output for program in session.programs for layer in program.layers
                   if layer.exactness is not None and not layer.exactness.exact}
        # Real sums are onnxruntime's alone: the reference has exact ones, as the hardware has.
        real = {graph.tensors[layer.output].name for graph in plan.graphs for layer in graph.layers
                if isinstance(layer, Convolution | Depthwise) and layer.real_sums}
        self._inexact = _downstream(plan, inexact - real)
        self._in_float = _downstream(plan, inexact) | _downstream(plan, (
            name for node in plan.model.proto.graph.node for name in node.output
            if any(caveat.endswith(f" '{node.name}' in float32")
                   for caveat in self._verifier.caveats)))

    @property
    def comparable(self) -> bool:
        """Whether an output does not depend on how float32 rounds an average, sum or product."""
        return not self._inexact.issuperset(self._names)

    def check(self, feed: dict[str, np.ndarray], outputs: list[np.ndarray],
              tensors: dict[str, np.ndarray]) -> tuple[int, int, bool]:
        """Bytes compared with the reference, and with onnxruntime; whether all are the latter's,
        as far as it can tell."""
        values, inner = run_plan(self._plan, feed)
        found = tensors | dict(zip(self._names, outputs, strict=True))
        count = 0
        for graph, layers in zip(self._plan.graphs, inner, strict=True):
            for layer in graph.layers:
                tensor = graph.tensors[layer.output]
                if tensor.name in tensors and tensor.name not in self._inexact:
                    expected = tensor.to_model(layers[layer.output])
                    count += _equal(f"{layer.op} '{layer.name}'", tensors[tensor.name], expected,
                                    "the reference")
        for name in self._names:
            if name not in self._inexact:
                count += _equal(f"output '{name}'", found[name], values[name], "the reference")
        if not cpu_is_exact() or self._tflite:
            return count, 0, True
        verdict = self._verifier.check(feed, outputs, tensors)
        wrong = [each for each in verdict.mismatches if each.tensor not in self._in_float]
        if wrong:
            raise Difference(f"{wrong[0]}, in {len(wrong)} tensors")
        return count, sum(value.nbytes for name, value in found.items()
                          if name not in self._in_float), not verdict.mismatches


def _equal(what: str, got: np.ndarray, expected: np.ndarray, source: str) -> int:
    if got.shape != expected.shape or got.dtype != expected.dtype:
        raise Difference(f"{what} is {got.dtype} {got.shape}, {source} gives {expected.dtype} "
                         f"{expected.shape}")
    differ = np.frombuffer(got.tobytes(), np.uint8) != np.frombuffer(expected.tobytes(), np.uint8)
    if differ.any():
        first = int(np.argmax(differ)) // got.itemsize
        raise Difference(f"{what}: value {first} is {got.flat[first]}, {source} gives "
                         f"{expected.flat[first]} ({np.count_nonzero(differ)} of {got.nbytes} "
                         f"bytes differ)")
    return got.nbytes


def _downstream(plan: Partition, names: Iterable[str]) -> set[str]:
    """The tensors, and all that are made of them."""
    found = set(names)
    for graph in plan.graphs:       # also of steps that make no tensor of the model
        for layer in graph.layers:
            if found.intersection(graph.tensors[name].name for name in layer.inputs):
                found.add(graph.tensors[layer.output].name)
    for node in plan.model.proto.graph.node:
        if found.intersection(node.input):
            found.update(node.output)
    return found
