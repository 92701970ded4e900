"""How an ONNX model is divided, and where each of its nodes went."""

from collections.abc import Iterable, Sequence

import onnx

from weft.errors import ModelError
from weft.errors.text import printable
from weft.frontend.division import Division, settle
from weft.frontend.placing import Quantized
from weft.ir import Misfits, Partition, Placement, Where

from .builder import Builder
from .cures import cure_of
from .macs import node_macs
from .model import OnnxModel, OnnxProgram
from .nodes import implicit_inputs, label
from .patterns import HANDLERS, VIEWS, unsupported
from .source import Source
from .values import Constant, Dequantized, Host, Pending, QuantizedConstant, Raw, Value, stage_of
from .walk import walk

__all__ = ["make_partition"]


def make_partition(source: Source,
                   misfits: Misfits | None = None) -> tuple[Partition, Builder]:
    """How a model is divided, and what that was made from; ``misfits`` as in
    :func:`weft.frontend.partition`."""
    partition, divider = settle(lambda forbidden: _Divider(walk(source, forbidden)), misfits)
    return partition, divider.builder


def _layer_of(value: Value) -> str | None:
    """The tensor of the accelerator that a layer makes for a value."""
    held = value.sums if isinstance(value, Raw) else value
    return held.tensor if isinstance(held, Quantized) else None


class _Divider(Division[onnx.NodeProto]):
    def __init__(self, builder: Builder):
        self.builder = builder
        self._source = builder.source
        super().__init__(self._source.name, builder, builder.nodes,
                         (value.name for value in self._source.inputs), self._source.outputs)

    def makes(self, node: onnx.NodeProto) -> Iterable[str]:
        return filter(None, node.output)

    def reads(self, node: onnx.NodeProto) -> Iterable[str]:
        return implicit_inputs(node)

    def stage(self, name: str) -> int:
        value = self.builder.value(name)
        stage = stage_of(value)
        accelerated = _layer_of(value) is not None
        return stage if accelerated else stage + stage % 2

    def quantized(self, name: str) -> Quantized:
        value = self.builder.value(name)
        if isinstance(value, Raw):
            return value.sums
        assert isinstance(value, Quantized)
        return value

    def cheap(self, name: str, node: onnx.NodeProto) -> bool:
        """Dequantizing twice is cheaper than passing real values on, and constants cost nothing."""
        return isinstance(self.builder.value(name), Constant | QuantizedConstant) \
            or node.op_type == "DequantizeLinear"

    def host_program(self, nodes: Sequence[onnx.NodeProto], reads: Iterable[str],
                     outputs: Iterable[str], name: str) -> OnnxProgram:
        return OnnxProgram(self._source.extract(nodes, reads, outputs, name))

    def partition(self) -> Partition:
        refusal = self.refusal(self._first_refusal())
        segments, numbers = self.segments()
        return Partition(name=self._source.name, model=OnnxModel(self._source.original),
                         segments=tuple(segments), placements=tuple(self._placements(numbers)),
                         refusal=refusal)

    def _first_refusal(self) -> ModelError | None:
        for name, error in self.builder.refusals.items():
            cure = error.cure or cure_of(self.builder.maker(name), str(error))
            return ModelError(str(error), cure=cure)
        return None

    def _placements(self, numbers: dict[int, int]) -> Iterable[Placement]:
        hosts: dict[str, int] = {}
        for stage, (nodes, _) in sorted(self._hosted.items()):
            for node in nodes:
                hosts.setdefault(node.output[0], numbers[stage])
        makers = self.makers(numbers)
        owners: dict[str, tuple[int, str]] = {}     # layer that a tensor leads to
        reasons: dict[str, ModelError] = {}         # why a tensor is needed on the host
        rows = []
        for node in reversed(self.builder.nodes):
            first = node.output[0]
            value = self.builder.value(first)
            if isinstance(value, Constant | QuantizedConstant):
                continue
            owner = None
            layer = _layer_of(value)
            if layer is not None and layer in makers:
                owner = makers[layer]
            owner = owner or next((owners[name] for name in node.output if name in owners), None)
            reason = self.builder.refusals.get(first)
            if reason is None and node.op_type != "DequantizeLinear":
                reason = next((reasons[name] for name in node.output if name in reasons), None)
            on_host = first in hosts and layer is None
            if on_host and owner is not None and node.op_type == "DequantizeLinear":
                on_host = False     # for both
            for name in filter(None, node.input):
                if owner is not None and not on_host:
                    owners[name] = owner
                elif on_host and reason is not None and isinstance(
                        self.builder.value(name), Dequantized | Pending):
                    reasons[name] = reason      # it was understood, but no layer came of it
            if first in self._source.added:
                continue
            where, segment, worker, text, cure = Where.HOST, hosts.get(first, -1), "", "", ""
            if on_host:
                text = str(reason or self._usual_reason(node))
                cure = (reason.cure if reason is not None else "") or cure_of(node.op_type, text)
            elif first in self.builder.reordered and owner is not None:
                segment, text = owner[0], str(self.builder.reordered[first])
            elif owner is not None:
                where, (segment, worker) = Where.ACCELERATOR, owner
            else:
                continue            # needed for a shape alone
            rows.append(Placement(name=printable(node.name or first),
                                  op=printable(self._source.operator(node)),
                                  where=where, segment=segment, reason=text, cure=cure,
                                  layer=worker,
                                  macs=node_macs(node, self._source.shape) if on_host else 0))
        return reversed(rows)

    def _usual_reason(self, node: onnx.NodeProto) -> str:
        if node.op_type == "QuantizeLinear":
            return f"{label(node)} quantizes values that the host makes"
        if node.op_type == "DequantizeLinear":
            return f"{label(node)} makes real values for the host"
        if node.op_type not in HANDLERS:
            return str(unsupported(node))
        values = [self.builder.value(name) for name in node.input if name]
        if any(isinstance(value, Host) for value in values):
            return f"{label(node)} works on real values of the host"
        if node.op_type in VIEWS and isinstance(values[0], Dequantized | Quantized):
            source = values[0].source if isinstance(values[0], Dequantized) else values[0]
            who = "only the host reads" if source.accelerated else "the host makes"
            return f"{label(node)} moves values that {who}"
        return f"{label(node)} has no QuantizeLinear after it"
