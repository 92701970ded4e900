"""A network and a configuration for other simulators: SCALE-Sim and Accelergy."""

import re
from collections.abc import Sequence

from weft.compiler import Program
from weft.compiler.activity import Activity, stream_activity
from weft.hw.isa.commands import Memory
from weft.hw.isa.config import AcceleratorConfig
from weft.hw.isa.memories import memories
from weft.ir import Graph

from .measure import gemm
from .scale_sim import Product, scale_sim_files

__all__ = ["FORMATS", "accelergy_files", "exchange_files", "network_products"]


FORMATS = ("scale-sim", "accelergy")

_TECHNOLOGY = "45nm"    # of the default table of energies, too


def exchange_files(kind: str, graphs: Sequence[Graph], programs: Sequence[Program]) \
        -> dict[str, str]:
    """Files by name.

    Parameters
    ----------
    kind : :class:`str`
        One of :data:`FORMATS`.
    graphs, programs
        Of a model, the programs for one configuration.
    """
    config = programs[0].config
    if kind == "scale-sim":
        return scale_sim_files(network_products(graphs), config)
    return accelergy_files(Activity.sum(
        activity for program in programs
        for activity in stream_activity(config, program.commands)), config)


def network_products(graphs: Sequence[Graph]) -> list[Product]:
    """The layers that are matrix products. A depthwise convolution is one for each channel: its
    name ends in how many, and its cycles count as often."""
    found: list[Product] = []
    for graph in graphs:
        for index, layer in enumerate(graph.layers):
            size = gemm(graph, index, 1)
            if size:
                count, *shape = size
                name = re.sub(r"\W+", "_", layer.name).strip("_") or "layer"
                found.append(Product(f"{len(found)}_{name}" + (f"_x{count}" if count > 1 else ""),
                                     *shape))
    return found


def accelergy_files(activity: Activity, config: AcceleratorConfig) -> dict[str, str]:
    """``architecture.yaml``, of Accelergy's primitive components, and ``action_counts.yaml`` of the
    first frame."""
    sizes = memories(config)
    components: list[tuple[str, str, dict[str, int], dict[str, int]]] = []

    def memory(which: Memory, reads: int, writes: int, banks: int = 1) -> None:
        if which in sizes:
            size = sizes[which]
            components.append((which.name.lower(), "SRAM", {
                "width": 8 * size.unit_data_bytes, "depth": size.depth // banks,
                "n_banks": banks}, {"read": reads, "write": writes}))

    memory(Memory.ACTIVATION, activity.activation_reads, activity.activation_writes,
           config.activation_banks)
    memory(Memory.WEIGHT, activity.weight_reads, activity.weight_writes)
    memory(Memory.PARAMETER, activity.parameter_reads, activity.parameter_writes)
    memory(Memory.VECTOR_WEIGHT, activity.vector_weight_reads, activity.vector_weight_writes)
    memory(Memory.TABLE, activity.table_reads, activity.table_writes)
    components += [
        ("accumulators", "SRAM", {"width": config.accumulator_width,
                                  "depth": config.accumulator_pixels, "n_banks": 2},
         {"read": activity.accumulator_reads, "write": activity.accumulator_writes}),
        ("accumulation", "adder", {"datawidth": config.accumulator_width},
         {"add": activity.accumulator_writes}),
        ("array", "mac", {"datawidth": 8}, {"mac_random": activity.products}),
        ("requantization", "mac", {"datawidth": 32}, {"mac_random": activity.requantized}),
    ]
    if config.vector:
        components.append(("vector", "mac", {"datawidth": 8},
                           {"mac_random": activity.vector_products}))
    return {"architecture.yaml": _architecture(components, config),
            "action_counts.yaml": _action_counts(components, config)}


def _architecture(components: Sequence[tuple[str, str, dict[str, int], dict[str, int]]],
                  config: AcceleratorConfig) -> str:
    lines = ["architecture:", "  version: 0.3", "  subtree:", f"    - name: {config.name}",
             "      attributes:", f"        technology: {_TECHNOLOGY}", "      local:"]
    for name, kind, attributes, _ in components:
        lines += [f"        - name: {name}", f"          class: {kind}", "          attributes:"]
        lines += [f"            {field}: {value}" for field, value in attributes.items()]
    return "\n".join(lines) + "\n"


def _action_counts(components: Sequence[tuple[str, str, dict[str, int], dict[str, int]]],
                   config: AcceleratorConfig) -> str:
    lines = ["action_counts:", "  version: 0.3", "  subtree:", f"    - name: {config.name}",
             "      local:"]
    for name, kind, _, actions in components:
        lines += [f"        - name: {name}", "          action_counts:"]
        for action, count in actions.items():
            lines.append(f"            - name: {action}")
            if kind == "SRAM":
                lines += ["              arguments:", "                data_delta: 1",
                          "                address_delta: 1"]
            lines.append(f"              counts: {count}")
    return "\n".join(lines) + "\n"
