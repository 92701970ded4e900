"""What the page shows, as plain data for its template."""

from collections.abc import Iterable, Sequence
from typing import Any

from weft.compiler.limits import Limits, ProgramLimits, program_limits
from weft.errors.text import printable
from weft.hw.isa.commands import Engine
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.registers import cycle_counters
from weft.ir import Partition, Where
from weft.report.terminal import short_name, verdict
from weft.report.timeline import live_spans, slices
from weft.runtime.advice import Advice
from weft.runtime.energy import load_energy_table
from weft.runtime.layer_energy import frame_energy
from weft.runtime.runner import Run
from weft.runtime.segment import Execution, layer_limits

from .roofline import Dot, roofline

__all__ = ["contents"]


_RESOURCES = {"array": "the array", "vector": "the vector engine", "read": "reading",
              "write": "writing"}


def contents(run: Run, plan: Partition, advice: Advice | None = None) -> dict[str, Any]:
    """The variables of the template."""
    common = {
        "model": printable(run.model),
        "config": run.config,
        "config_fields": run.config.to_dict(),
        "run": run,
        "warning": plan.warning,
        "verdict": verdict(run) if run.verified else None,
        "host": [placement for placement in plan.placements if placement.where is Where.HOST],
    }
    return common if plan.warning else {**common, **_accelerated(run, advice)}


def _accelerated(run: Run, advice: Advice | None) -> dict[str, Any]:
    """What there is to show of a model of which something is accelerated."""
    executions = run.last.executions
    # What a layer needs from memory, whether it is there already or not.
    needed = [program_limits(execution.program) for execution in executions]
    moved = [program_limits(execution.program, warm=execution.warm) for execution in executions]
    layers = _layers(run, executions, moved, needed)
    config = run.config
    energies = frame_energy(executions, load_energy_table())
    for row, energy in zip(layers, energies, strict=False):
        row["energy_uj"] = energy.energy_uj
    limits = Limits.sum(each.total for each in moved)
    return {
        "last": run.last,
        "kind": "warm" if run.last.warm else "cold",
        "utilization": run.utilization(run.batch * run.macs, run.last.cycles),
        "rate": run.batch * run.macs / run.last.cycles,
        "per_multiplier": run.batch * run.macs / run.last.cycles / config.multipliers,
        "dram_bytes": run.last.dram_read_bytes + run.last.dram_write_bytes,
        "layers": layers,
        "input_bytes": _bytes(config, [each.inputs for each in moved]),
        "command_bytes": _bytes(config, [each.commands for each in moved]),
        "energy_uj": sum(each.energy_uj for each in energies),
        "other_energy_uj": energies[-1].energy_uj,
        "limits": limits,
        "resources": _RESOURCES,
        "reached": limits.share(run.last.cycles),
        "advice": advice,
        "roofline": roofline([Dot(name=layer["name"], engine=layer["engine"], macs=layer["macs"],
                                  cycles=layer["engine_cycles"], dram_bytes=layer["needed"])
                              for layer in layers if layer["macs"] and layer["engine_cycles"]],
                             config),
        "engines": _causes(run),
        "timeline": _timeline(executions),
    }


def _bytes(config: AcceleratorConfig, parts: Iterable[Limits]) -> int:
    """Read and written, in whole beats."""
    return config.axi_bytes * sum(each.read + each.write for each in parts)


def _layers(run: Run, executions: Sequence[Execution], moved: Sequence[ProgramLimits],
            needed: Sequence[ProgramLimits]) -> list[dict[str, Any]]:
    """The rows of the table. A batch has a copy of each layer for each frame, side by side."""
    rows = []
    results = iter(run.last.layers)
    longest = max(layer.cycles for layer in run.last.layers)
    for execution, now, cold in zip(executions, moved, needed, strict=True):
        infos = execution.program.layers
        least, all_of_it = (layer_limits(execution.program, each) for each in (now, cold))
        for first, limits, whole in zip(range(0, len(infos), run.batch), least, all_of_it,
                                        strict=True):
            layer = next(results)
            rows.append({
                "name": layer.name, "short": short_name(layer.name), "op": layer.op,
                "engine": layer.engine or "none", "shape": " x ".join(map(str, layer.shape)),
                "macs": layer.macs, "cycles": layer.cycles,
                "share": layer.cycles / run.last.cycles, "bar": layer.cycles / longest,
                "engine_cycles": layer.engine_cycles,
                "utilization": layer.utilization(run.config),
                "bytes": _bytes(run.config, [limits]), "needed": _bytes(run.config, [whole]),
                "limits": limits,
                "resources": _RESOURCES,
        "reached": limits.share(max(layer.cycles, layer.engine_cycles)),
                "exactness": str(infos[first].exactness or ""),
            })
    return rows


def _causes(run: Run) -> list[dict[str, Any]]:
    """What each engine did with the cycles; none of a configuration that does not count it."""
    engines = []
    for engine in Engine:
        found = {name: run.last.counters[counter.name.lower()]
                 for name, counter in cycle_counters(engine).items()}
        whole = sum(found.values())
        if whole:
            engines.append({"name": engine.name.lower(), "causes": [
                {"name": name, "cycles": count, "share": count / whole}
                for name, count in found.items() if count]})
    return engines


def _timeline(executions: Sequence[Execution]) -> dict[str, Any]:
    """What the script draws; all executions one after the other."""
    config = executions[0].program.config
    names: dict[str, int] = {}
    bars, boxes, parts, now = [], [], [], 0

    def number(name: str) -> int:
        return names.setdefault(name, len(names))

    for execution in executions:
        parts.append(now)
        layers = execution.program.layers
        bars += [[each.engine.value, each.lane, now + each.start, now + each.end,
                  number(each.layer or "input"), each.command,
                  execution.infos[each.command].text] for each in slices(execution)]
        for resident, start, end in live_spans(execution):
            layer = execution.infos[resident.first].layer
            boxes.append([resident.address, resident.words, now + start, now + end,
                          number("input" if layer is None else layers[layer].name),
                          resident.name])
        now += execution.cycles
    return {
        "cycles": now, "parts": parts, "engines": [engine.name.lower() for engine in Engine],
        "words": config.activation_depth, "wordBytes": config.word_data_bytes,
        "layers": list(names), "labels": list(map(short_name, names)), "bars": bars, "boxes": boxes,
    }
