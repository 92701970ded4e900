"""Which layers are computed depth first.

A group saves the way of its inner tensors to external memory and back, and pays for it with short
commands and with room for all its constants. So only groups with a tensor inside that would else be
in external memory are looked at; of all ways to divide the graph into those and into single layers
that of the fewest cycles is taken, by the estimates that place the tensors.
"""

from collections.abc import Iterator
from math import inf

from weft.compiler.channel_layout import ChannelLayout
from weft.errors import CompileError
from weft.hw.isa.config import AcceleratorConfig

from .depth_first import GroupPlanner
from .groups import Group, GroupFinder
from .placement import MemoryPlan, plan_memory

__all__ = ["plan_groups"]


_MOST_SIDES = 1         # side outputs of a group
_SIDE_CYCLES = 2000     # that one must save, as it is in the way of other loads


def plan_groups(laid_out: ChannelLayout, config: AcceleratorConfig, plan: MemoryPlan, *,
                keep_tensors: bool = False) -> Iterator[MemoryPlan]:
    """Plans with groups that are computed depth first, which promise to be better than ``plan``,
    which is layer by layer: without side outputs, and with them.

    Parameters
    ----------
    keep_tensors : :class:`bool`
        Every tensor is to be stored, too.
    """
    stored = {edge.tensor for edge in laid_out.graph.outputs}
    if keep_tensors:
        stored |= laid_out.kept
    planner = GroupPlanner(laid_out, config, plan.aligns, stored)
    before: list[Group] = []
    for most_sides in range(_MOST_SIDES + 1):
        groups = _find_groups(laid_out, config, plan, planner, most_sides)
        if groups == before:
            continue
        before = groups
        try:
            found = plan_memory(laid_out, config, keep_tensors=keep_tensors, groups=groups)
        except CompileError:  # with the groups it does not fit, without them it does
            continue
        if sum(found.cycles) < sum(plan.cycles):
            yield found


def _find_groups(laid_out: ChannelLayout, config: AcceleratorConfig, plan: MemoryPlan,
                 planner: GroupPlanner, most_sides: int) -> list[Group]:
    """The groups that together save the most cycles of a plan without groups."""
    count = len(laid_out.graph.layers)
    external = {name for name, home in laid_out.homes.items()
                if home.root in plan.storages and plan.storages[home.root].external}
    if not external:
        return []
    ending: dict[int, list[Group]] = {}
    finder = GroupFinder(laid_out, config)
    for group in (*finder.groups(external, most_sides), *finder.channel_groups(external),
                  *finder.head_groups(external)):
        ending.setdefault(group.layers.stop, []).append(group)
    # The fewest cycles of the layers in front of each, and the group at their end.
    best: list[tuple[float, Group | None]] = [(0.0, None)]
    for stop in range(1, count + 1):
        cycles = best[-1][0] + plan.cycles[stop - 1]
        chosen: Group | None = None
        for group in ending.get(stop, ()):
            outside = frozenset(external & {*group.inputs, group.output})
            room = config.activation_depth - _resident(plan, laid_out, group)
            if planner.fewest_words(group) > room:
                continue
            if group.by_channels:
                output = plan.storages[laid_out.homes[group.output].root].words
                taken = _by_channels(planner, group, outside, room, output, config)
            else:
                taken = _cycles(planner, group, outside, room)
            for name in group.side_outputs:
                taken += _SIDE_CYCLES
                if name not in external:    # it must be loaded
                    taken += plan.storages[name].words * config.word_bytes / config.axi_bytes
            through = best[group.layers.start][0] + taken
            if through < cycles:
                cycles, chosen = through, group
        best.append((cycles, chosen))
    groups: list[Group] = []
    stop = count
    while stop:
        _, chosen = best[stop]
        if chosen is not None:
            groups.append(chosen)
        stop = stop - 1 if chosen is None else chosen.layers.start
    return groups[::-1]


def _cycles(planner: GroupPlanner, group: Group, outside: frozenset[str], room: int) -> float:
    choice, _ = planner.best(group, outside, room)
    return inf if choice is None else choice.cycles


def _by_channels(planner: GroupPlanner, group: Group, outside: frozenset[str], room: int,
                 output: int, config: AcceleratorConfig) -> float:
    """Cycles of a group that is computed by channels, with its output of so many words on chip, if
    that leaves room enough. It must fit with all in external memory, as single layers do."""
    everything = frozenset((*group.inputs, group.output))
    if _cycles(planner, group, everything, config.activation_depth) == inf:
        return inf
    if group.output in outside:
        here = _cycles(planner, group, outside - {group.output}, room - output)
        if here < inf:
            return here
    return _cycles(planner, group, outside, room)


def _resident(plan: MemoryPlan, laid_out: ChannelLayout, group: Group) -> int:
    """Words of all tensors on chip while a group is computed, but for those inside it."""
    return sum(storage.words for storage in plan.storages.values()
               if not storage.external and storage.name not in (*group.inner, *group.side_outputs)
               and storage.first < group.layers.stop and storage.last >= group.layers.start)
