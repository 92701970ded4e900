"""Models that the front end takes over or refuses."""

import re

import numpy as np
import pytest
from models import assert_plan_is_golden, random_inputs

from weft.errors import ModelError
from weft.frontend import load_graph, partition
from weft.reference.golden import cpu_is_exact


def rng_of(seed=0):
    return np.random.default_rng([seed, 7])


def check(model, *, seed=0):
    """Loads a model, compares it with onnxruntime where that is exact, and returns the graph."""
    return divided(model, seed=seed)[1]


def divided(model, *, seed=0):
    """As :func:`check`; returns what the host does before the graph, the graph, and what the host
    does after it, with ``None`` for nothing."""
    plan = partition(model)
    if cpu_is_exact():
        assert_plan_is_golden(plan, random_inputs(rng_of(seed), plan.model.proto))
    graph, = plan.graphs
    at = plan.segments.index(graph)
    before, after = plan.segments[:at], plan.segments[at + 1:]
    assert len(before) <= 1 and len(after) <= 1
    return (before[0].program.proto if before else None, graph,
            after[0].program.proto if after else None)


def operators(part):
    return [node.op_type for node in part.graph.node]


def refused(model, message):
    with pytest.raises(ModelError, match=rf"^{re.escape(message)}$"):
        load_graph(model)
