"""Energy of layers on the terminal."""

from collections.abc import Sequence

from rich.table import Table

from weft.runtime.layer_energy import LayerEnergy

from .terminal import escape, short_name

__all__ = ["energy_table"]


_NAME = 24


def energy_table(layers: Sequence[LayerEnergy]) -> Table:
    """Microjoules of each layer of a frame or batch, by what takes them."""
    kinds = list(layers[0].parts_pj)
    table = Table(title="Energy in uJ: an estimate, to compare configurations by, not to plan a "
                        "battery by", title_justify="left")
    table.add_column("Layer", no_wrap=True)
    for kind in [*kinds, "all"]:
        table.add_column(kind, justify="right")

    def row(name: str, parts: Sequence[float]) -> None:
        table.add_row(name, *(f"{value / 1e6:.3f}" if value else "" for value in
                              [*parts, sum(parts)]))

    for layer in layers:
        row(escape(short_name(layer.name, _NAME)) or "input", list(layer.parts_pj.values()))
    table.add_section()
    row("whole", [sum(layer.parts_pj[kind] for layer in layers) for kind in kinds])
    return table
