"""What ``weft quantize`` shows: the loss of every layer, and what to try."""

import math
from pathlib import Path

from rich.console import Console
from rich.table import Table

from weft.ir import Where
from weft.quantize import LayerLoss, Quantized

from .terminal import escape, short_name

__all__ = ["advice", "print_quantized", "quantized_table"]


def quantized_table(quantized: Quantized) -> Table:
    """Signal-to-noise ratio of every layer; the layers that lose most are marked."""
    table = Table(title=f"{escape(quantized.name)} quantized, against float, on "
                        f"{_frames(quantized.sample)}", title_justify="left")
    for name in ("Layer", "Operator"):
        table.add_column(name)
    for name in ("SNR [dB]", "Lost here [dB]"):
        table.add_column(name, justify="right")
    worst = quantized.worst
    for layer in quantized.layers:
        loss = f"{layer.loss:.1f}" if layer.loss >= 0.05 else ""
        table.add_row(escape(short_name(layer.name, 48)), escape(layer.op), _decibels(layer),
                      f"[yellow]{loss}[/]" if layer in worst else loss)
    return table


def print_quantized(quantized: Quantized, output: Path, config: str, console: Console) -> None:
    """Prints the table, how often both models agree, what to try, and what is accelerated."""
    console.print(quantized_table(quantized))

    def line(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    top = quantized.top
    if top is not None:
        line(f"top result: as that of the float model for {top.agreeing} of "
             f"{_frames(top.frames)} ({top.agreeing / top.frames:.1%})")
        if top.right is not None and top.float_right is not None:
            line(f"accuracy: float {top.float_right / top.frames:.2%}, "
                 f"int8 {top.right / top.frames:.2%}")
    for text in advice(quantized):
        line(escape(text))
    done, operators = quantized.accelerated
    parts = len(quantized.plan.graphs)
    others = sorted({place.op for place in quantized.plan.placements
                     if place.where is Where.HOST
                     and place.op not in ("QuantizeLinear", "DequantizeLinear")})
    rest = f"; the host runs {', '.join(map(escape, others))}" if others else ""
    line(f"{escape(str(output))}: {done} of {operators} operators on the accelerator ({config}) in "
         f"{parts} part{'s' if parts > 1 else ''}{rest}")


def advice(quantized: Quantized) -> list[str]:
    """What to try where layers lose much; nothing if none does."""
    worst = quantized.worst
    if not worst:
        return []
    settings = quantized.settings
    names = ", ".join(f"'{layer.name}' ({layer.loss:.1f} dB)" for layer in worst)
    tries = []
    if not settings.per_channel:
        tries.append("a scale for each channel (without --per-tensor)")
    if settings.method == "minmax":
        tries.append("--method percentile or entropy")
    if quantized.frames < 100:
        tries.append("more frames to calibrate with")
    tries.append(f"--exclude '{worst[0].name}', which the host runs then")
    return [f"most is lost in {names}; if results suffer, try {'; '.join(tries)}"]


def _decibels(layer: LayerLoss) -> str:
    return f"{layer.snr:.1f}" if math.isfinite(layer.snr) else ("exact" if layer.snr > 0 else "-")


def _frames(count: int) -> str:
    return f"{count} frame{'s' if count > 1 else ''}"
