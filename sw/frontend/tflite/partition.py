"""How a TFLite model is divided, and where each of its operators went."""

from collections.abc import Iterable, Mapping, Sequence
from math import prod

from weft.errors import ModelError
from weft.frontend.division import Division, settle
from weft.frontend.placing import Quantized
from weft.ir import Misfits, Partition, Placement, Where

from . import kernels, layers
from .builder import Builder, Padded, stage_of
from .file import File, Operator, label
from .handlers import HANDLERS
from .model import TfliteModel, TfliteProgram
from .rules import Rule
from .types import check_types

__all__ = ["make_partition"]


def make_partition(file: File, rule: Rule, misfits: Misfits | None = None) -> Partition:
    """How a model is divided.

    Raises
    ------
    ModelError
        If the host lacks an operator.
    """
    check_types(file)
    return settle(lambda forbidden: _Division(_walk(file, rule, forbidden)), misfits)[0]


def _walk(file: File, rule: Rule, forbidden: Mapping[str, ModelError]) -> Builder:
    builder = Builder(file, rule, forbidden)
    for operator in builder.operators:
        first = operator.outputs[0]
        stage = max((stage_of(builder.values[each.name])
                     for each in operator.inputs if each is not None), default=0)
        try:
            if len(operator.outputs) == 1 and operator.op in HANDLERS and not operator.custom:
                builder.values[first.name] = HANDLERS[operator.op](builder, operator)
                continue
            raise kernels.left_to_host(operator)
        except ModelError as error:
            builder.refusals[first.name] = error
        for each in operator.outputs:
            builder.values[each.name] = builder.on_host(each, stage + stage % 2)
    return builder


class _Division(Division[Operator]):
    def __init__(self, builder: Builder):
        self._builder = builder
        self._file = builder.file
        super().__init__(self._file.name, builder, builder.operators,
                         (tensor.name for tensor in self._file.inputs),
                         (tensor.name for tensor in self._file.outputs))

    def makes(self, node: Operator) -> Iterable[str]:
        return (tensor.name for tensor in node.outputs)

    def reads(self, node: Operator) -> Iterable[str]:
        return (tensor.name for tensor in node.inputs if tensor is not None)

    def stage(self, name: str) -> int:
        value = self._builder.values[name]
        stage = stage_of(value)
        accelerated = isinstance(value, Quantized) and value.accelerated
        return stage if accelerated else stage + stage % 2

    def quantized(self, name: str) -> Quantized:
        value = self._builder.values[name]
        assert isinstance(value, Quantized)
        return value

    def cheap(self, name: str, node: Operator) -> bool:
        """Real values take four times the room of int8 ones; padding is made where it is read."""
        return node.op == "DEQUANTIZE" or isinstance(self._builder.values[name], Padded)

    def host_program(self, nodes: Sequence[Operator], reads: Iterable[str],
                     outputs: Iterable[str], name: str) -> TfliteProgram:
        return TfliteProgram(tuple(nodes), self._builder.rule, tuple(outputs))

    def partition(self) -> Partition:
        refusals = self._builder.refusals
        for operators, _ in self._hosted.values():
            for operator in operators:
                kernels.rehearse(operator, self._builder.rule)
        refusal = self.refusal(next(iter(refusals.values()), None))
        segments, numbers = self.segments()
        model = TfliteModel(self._file, self._builder.rule)
        return Partition(name=self._file.name, model=model, segments=tuple(segments),
                         placements=tuple(self._placements(numbers)), refusal=refusal)

    def _placements(self, numbers: dict[int, int]) -> Iterable[Placement]:
        hosts = {operator.outputs[0].name: numbers[stage]
                 for stage, (operators, _) in sorted(self._hosted.items(), reverse=True)
                 for operator in operators}
        makers = self.makers(numbers)
        rows = []
        owners: dict[str, tuple[int, str]] = {}     # the layer that a padded tensor leads to
        for operator in reversed(self._nodes):
            first = operator.outputs[0].name
            value = self._builder.values[first]
            owner = makers.get(value.tensor or "") if isinstance(value, Quantized) else None
            owner = owner or owners.get(first)
            if owner is not None:
                for each in operator.inputs:
                    if each is not None and isinstance(self._builder.values[each.name], Padded):
                        owners[each.name] = owner
                rows.append(Placement(name=operator.name, op=operator.op,
                                      where=Where.ACCELERATOR, segment=owner[0], layer=owner[1]))
            elif first in hosts:
                rows.append(Placement(name=operator.name, op=operator.op, where=Where.HOST,
                                      segment=hosts[first], reason=self._reason(operator),
                                      macs=layers.macs(operator)))
        return reversed(rows)

    def _reason(self, operator: Operator) -> str:
        refusal = self._builder.refusals.get(operator.outputs[0].name)
        return str(refusal or f"{label(operator)} rearranges {prod(operator.outputs[0].shape)} "
                              f"values that the host makes")
