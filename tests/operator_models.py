"""Models of one operator of ONNX, compared with onnxruntime."""

import numpy as np
from models import QdqBuilder, assert_plan_is_golden, random_inputs

from weft.frontend import partition
from weft.reference.golden import cpu_is_exact


def rng_of(seed=0):
    return np.random.default_rng([seed, 21])


def builder(seed=0, **options):
    return QdqBuilder(rng_of(seed), **options)


def check(b, *, seed=0, graphs=1, exact=True):
    """Builds the model, compares it with onnxruntime, and returns the layers."""
    plan = partition(b.build())
    assert len(plan.graphs) == graphs
    if cpu_is_exact():
        assert_plan_is_golden(plan, random_inputs(rng_of(seed), plan.model.proto), exact=exact)
    return [layer for graph in plan.graphs for layer in graph.layers]


def image(b, channels=4, size=(8, 9), name="x"):
    """An input, and a convolution of it, so that the accelerator makes the tensor."""
    x = b.input(name, (1, 3, *size))
    return b.quantize(b.conv(x, 3, channels, name=f"{name}_conv"))


def end(b, x, *, scale=None, **options):
    b.output(b.quantize(x, scale=scale, **options))


def quantized_like(b, x, name="x_conv", factor=1.0):
    return b.quantize(x, scale=float(b.initializers[f"{name}_scale"]) * factor,
                      zero_point=int(b.initializers[f"{name}_zero"]))
