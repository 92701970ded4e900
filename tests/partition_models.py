"""Models with an operator between two convolutions, and the plan of a model."""

import numpy as np
from models import QdqBuilder, assert_plan_is_golden, random_inputs

from weft.frontend import partition
from weft.reference.golden import cpu_is_exact


def rng_of(seed=0):
    return np.random.default_rng([seed, 41])


def check(model, *, exact=True):
    """The plan of a model, compared with onnxruntime."""
    plan = partition(model)
    if cpu_is_exact():
        assert_plan_is_golden(plan, random_inputs(rng_of(), plan.model.proto), exact=exact)
    return plan


def rows(plan):
    return {row.name: row for row in plan.placements}


def between(odd, *, channels=4, size=(6, 6), opset=17, scale=0.1, unsigned=False, quantize=True,
            last=True):
    """Conv 'one', what ``odd`` adds to its result, and Conv 'two'."""
    b = QdqBuilder(rng_of(), opset=opset, unsigned=unsigned)
    x = b.quantize(b.conv(b.input("x", (1, 3, *size)), 3, channels, name="one"), scale=0.2,
                   zero_point=7)
    y = odd(b, x)
    if quantize:
        b._spread.pop(y, None)
        y = b.quantize(y, scale=scale, zero_point=5)
    if last:
        b.output(b.quantize(b.conv(y, channels, 3, name="two"), scale=30.0))
    else:
        b.output(y)
    return b.build()
