"""Golden values: what onnxruntime computes, set up so that its int8 arithmetic is exact."""

import functools
import platform
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from weft import reference
from weft.errors import InputError, ModelError

__all__ = ["Exactness", "GoldenSession", "cpu_is_exact", "first_line", "load_exactly",
           "session_options", "to_int8"]


_SILENT = 4
# They scale sums and add a bias in one rounding, where the model asks for two. Whether they apply
# depends on which tensors are asked for.
_FUSIONS = ["DynamicQuantizeMatMulFusion", "MatMulIntegerToFloatFusion"]
_FLOAT_LAYERS = ("Conv", "FusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul")


@functools.cache
def _cpu_flags() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            return frozenset(value.split())
    return frozenset()


def _is_x86() -> bool:
    return platform.machine().lower() in ("x86_64", "amd64")


def _has_vnni() -> bool:
    return bool({"avx512_vnni", "avx_vnni"} & _cpu_flags())


def session_options(*, threads: int = 1) -> tuple[onnxruntime.SessionOptions, ...]:
    """Options with which onnxruntime keeps quantized layers in integers, and logs nothing: those to
    try first come first.

    Without ``session.qdqisint8allowed`` it runs most int8 convolutions in float32. Without VNNI its
    x86 kernels for uint8 activations add pairs of products in 16 bits and saturate;
    ``session.x64quantprecision`` avoids those kernels. Models with int8 activations do not load
    with it, and their kernels are exact without it.
    """
    found = []
    for precise in (True, False) if _is_x86() and _cpu_flags() and not _has_vnni() else (False,):
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _SILENT
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.qdqisint8allowed", "1")
        if precise:
            options.add_session_config_entry("session.x64quantprecision", "1")
        found.append(options)
    return tuple(found)


def load_exactly(model: onnx.ModelProto, *, threads: int = 1,
                 optimized: Path | None = None) -> onnxruntime.InferenceSession:
    """An onnxruntime session with :func:`session_options`.

    Parameters
    ----------
    model : :class:`onnx.ModelProto`
    threads : :class:`int`
    optimized : :class:`Path`
        A file for the model as it is after all of onnxruntime's fusions.

    Raises
    ------
    ModelError
        If onnxruntime cannot load the model.
    """
    for options in session_options(threads=threads):
        if optimized is not None:
            options.optimized_model_filepath = str(optimized)
        try:
            return onnxruntime.InferenceSession(model.SerializeToString(), options,
                                                providers=["CPUExecutionProvider"],
                                                disabled_optimizers=_FUSIONS)
        except Exception as error:  # onnxruntime has a dozen exception classes of its own
            failure = error
    raise ModelError(f"onnxruntime cannot load the model: {first_line(failure)}") from failure


def to_int8(values: np.ndarray) -> np.ndarray:
    """uint8 values moved into the int8 domain by 128; int8 values as they are."""
    return (values ^ np.uint8(128)).view(np.int8) if values.dtype == np.uint8 else values


class GoldenSession:
    """An onnxruntime session that also returns tensors from inside the graph.

    Parameters
    ----------
    model : path or :class:`onnx.ModelProto`
    tensors : names
        Tensors to return beside the graph's outputs. Quantized ones: onnxruntime stops fusing
        where a float tensor inside a quantized layer is asked for.
    threads : :class:`int`

    Attributes
    ----------
    name : :class:`str`
        As all :class:`weft.ir.Golden` have one: ``"onnxruntime"``.
    names : :class:`tuple`
        What :meth:`run` returns: the graph's outputs, then ``tensors``.
    optimized : :class:`tuple` of :class:`onnx.NodeProto`
        The nodes that are left after all of onnxruntime's fusions.
    float_layers : :class:`tuple`
        Layers that onnxruntime computes in float32 after all its fusions, as ``"Conv 'name'"``.
        Their rounding is not that of integer arithmetic, now and then by one step.
    caveats : :class:`tuple` of :class:`str`
        Reasons why onnxruntime may not be exact for this model on this machine.

    Raises
    ------
    ModelError
        If onnxruntime cannot load the model, or a tensor does not exist.
    """

    name = "onnxruntime"

    def __init__(self, model: str | Path | onnx.ModelProto, *, tensors: Iterable[str] = (),
                 threads: int = 1):
        source = onnx.ModelProto()
        source.CopyFrom(model if isinstance(model, onnx.ModelProto) else onnx.load(model))
        made = {name for node in source.graph.node for name in node.output}
        made |= {value.name for value in source.graph.input}
        present = [value.name for value in source.graph.output]
        for name in tensors:
            if name not in made:
                raise ModelError(f"Tensor '{name}' is not in the model")
            if name not in present:
                present.append(name)
                source.graph.output.append(helper.make_empty_tensor_value_info(name))
        self._names = tuple(present)
        self._source = source
        self._threads = threads
        self._session = load_exactly(source, threads=threads)

    @property
    def names(self) -> tuple[str, ...]:
        return self._names

    @functools.cached_property
    def optimized(self) -> tuple[onnx.NodeProto, ...]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "optimized.onnx"
            load_exactly(self._source, threads=self._threads, optimized=path)
            return tuple(onnx.load(path).graph.node)

    @functools.cached_property
    def float_layers(self) -> tuple[str, ...]:
        return tuple(f"{node.op_type} '{node.name or node.output[0]}'"
                     for node in self.optimized if node.op_type in _FLOAT_LAYERS)

    @functools.cached_property
    def caveats(self) -> tuple[str, ...]:
        exactness = cpu_is_exact()
        return (() if exactness else (exactness.reason,)) + tuple(
            f"onnxruntime computes {layer} in float32" for layer in self.float_layers)

    def run(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs and chosen tensors by name, in ONNX shape and type, for inputs by name."""
        wanted = {value.name for value in self._session.get_inputs()}
        if set(inputs) != wanted:
            raise InputError(f"Inputs must be {', '.join(sorted(wanted))}, "
                             f"not {', '.join(sorted(inputs)) or 'none'}")
        try:
            values = self._session.run(list(self._names), dict(inputs))
        except Exception as error:
            raise InputError(f"onnxruntime cannot run the model: {first_line(error)}") from error
        return dict(zip(self._names, values, strict=True))


def first_line(error: Exception) -> str:
    """The first line of an error of onnxruntime."""
    return str(error).strip().partition("\n")[0]


@dataclass(frozen=True, kw_only=True)
class Exactness:
    """Whether onnxruntime's int8 kernels are exact here; true or false in a condition.

    ``reason`` says why not, and is empty when they are.
    """

    exact: bool
    reason: str = ""

    def __bool__(self) -> bool:
        return self.exact


@functools.cache
def cpu_is_exact() -> Exactness:
    """Whether onnxruntime computes int8 layers exactly on this machine, found out by trying.

    A convolution and a Gemm with operands at both ends of their range show at once whether pairs
    of products saturate at 16 bits, or requantization rounds in another way.
    """
    for dtype in (np.int8, np.uint8):
        for op in ("Conv", "Gemm"):
            model, x, weights = _probe(op, dtype)
            try:
                got = GoldenSession(model, tensors=["y"]).run({"x": x})["y"]
            except ModelError as error:
                return Exactness(exact=False, reason=str(error))
            zero = 0 if dtype == np.int8 else 128
            acc = (x.reshape(-1, 64).astype(np.int64) - zero) @ weights.reshape(-1, 64).T
            expected = reference.requantize(
                acc.T.astype(np.int32), np.full(len(weights), _PROBE_SCALE, np.float32), 0)
            if not np.array_equal(to_int8(got).reshape(expected.T.shape), expected.T):
                cure = "no VNNI: pairs of products saturate at 16 bits" \
                    if _is_x86() and not _has_vnni() else "its kernels round differently here"
                return Exactness(exact=False, reason=(
                    f"onnxruntime {onnxruntime.__version__} computes a {np.dtype(dtype).name} {op} "
                    f"inexactly on this CPU ({platform.machine()}, {cure})"))
    return Exactness(exact=True)


_PROBE_SCALE = np.float32(2.0 ** -13)


def _probe(op: str, dtype: type) -> tuple[onnx.ModelProto, np.ndarray, np.ndarray]:
    """A layer of 64 inputs and 16 outputs, with all inputs and weights at the ends of their range:
    any 16-bit sum of two products saturates, while most outputs stay inside int8."""
    rng = np.random.default_rng(0)
    info = np.iinfo(dtype)
    weights = rng.choice(np.array([-127, 127], np.int8), (16, 64))
    x = rng.choice(np.array([info.min, info.max], dtype), (1, 64))
    shape = (1, 64, 1, 1) if op == "Conv" else (1, 64)
    x = x.reshape(shape)
    weights = weights.reshape((16, 64, 1, 1) if op == "Conv" else (16, 64))
    zero = dtype(0 if dtype == np.int8 else 128)
    one = np.float32(1)
    initial = {"w": weights, "s": one, "z": zero, "wz": np.int8(0), "sy": np.float32(2.0 ** 13)}
    layer = helper.make_node(op, ["xf", "wf"], ["yf"])
    if op == "Gemm":
        layer.attribute.append(helper.make_attribute("transB", 1))
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "s", "z"], ["xf"]),
        helper.make_node("DequantizeLinear", ["w", "s", "wz"], ["wf"]),
        layer,
        helper.make_node("QuantizeLinear", ["yf", "sy", "z"], ["y"]),
        helper.make_node("DequantizeLinear", ["y", "sy", "z"], ["out"]),
    ]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        nodes, "probe", [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in initial.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)],
                             ir_version=8), x, weights
