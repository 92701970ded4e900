"""What would make a network faster, tried."""

import numpy as np
import pytest
from graph_builder import GraphBuilder
from models import QdqBuilder

from weft import compiler
from weft.digits import MODEL
from weft.frontend import partition
from weft.hw.isa.presets import PRESETS
from weft.runtime.advice import Advice, Trial, advise
from weft.runtime.estimate import estimate_plan, estimate_programs

BASE = PRESETS["base"]


@pytest.fixture(scope="module")
def dense():
    """Weights for a single pixel, more than fit on the chip."""
    b = QdqBuilder(np.random.default_rng(4))
    x = b.input("x", (1, 512))
    for _ in range(2):
        x = b.quantize(b.gemm(x, 512, 512))
    b.output(x)
    return partition(b.build())


def advice_of(plan, config=BASE):
    return advise(plan, estimate_plan(plan, config))


def test_weights_that_are_read_for_one_pixel_want_a_batch_or_a_wider_port(dense):
    stages = []
    estimate = estimate_plan(dense, BASE)
    advice = advise(dense, estimate, progress=stages.append)
    assert (advice.bound, stages) == ("load", ["Trying axi_data_width 128",
                                               "Trying weight_bytes 262144",
                                               "Trying batch 4"])
    batch, port = advice.trials[:2]
    wider = estimate_plan(dense, BASE.replace(axi_data_width=128))
    assert (port.field, port.value, port.cycles) == ("axi_data_width", 128, wider.further.cycles)
    assert 1.8 < port.speedup == estimate.further.cycles / port.cycles < 2
    # The weights are read once for all frames.
    assert (batch.field, batch.value) == ("batch", 4)
    assert 3.5 < batch.speedup < 4
    assert str(advice).startswith("Bound by reading at the memory port in 100% of the cycles: "
                                  f"batch 4 would give {batch.speedup:.2f}x, "
                                  f"axi_data_width 128 would give {port.speedup:.2f}x")


def test_large_layers_want_a_larger_array():
    advice = advice_of(partition(MODEL))
    assert (advice.bound, {trial.field for trial in advice.trials}) == ("matrix", {"rows", "cols"})
    assert advice.trials[0].speedup > advice.trials[1].speedup > 1


def test_engines_that_wait_want_a_batch():
    b = QdqBuilder(np.random.default_rng(5))
    x = b.input("x", (1, 16, 2, 2))
    for _ in range(6):
        x = b.quantize(b.conv(x, 16, 16))
    b.output(x)
    advice = advice_of(partition(b.build()))
    trial, = advice.trials
    assert (advice.bound, trial.field, trial.value) == ("latency", "batch", 4)
    assert trial.speedup > 1.2


def test_what_is_no_configuration_is_not_tried(dense):
    widest = advice_of(dense, BASE.replace(axi_data_width=512, axi_burst_beats=8))
    assert "axi_data_width" not in {trial.field for trial in widest.trials}


def test_advice_in_words():
    trials = (Trial(field="cols", value=32, cycles=80, speedup=1.25),
              Trial(field="rows", value=32, cycles=100, speedup=1.0))
    assert str(Advice(bound="matrix", share=0.5, trials=trials)) == \
        "Bound by the array in 50% of the cycles: cols 32 would give 1.25x"
    assert str(Advice(bound="matrix", share=0.5, trials=trials[1:])) == \
        "Bound by the array in 50% of the cycles: nothing gained with rows 32"
    assert str(Advice(bound="vector", share=1, trials=())) == \
        "Bound by the vector engine in 100% of the cycles: nothing to change"


def test_rows_of_a_transformer_are_told_from_loads():
    builder = GraphBuilder(np.random.default_rng(2), (64, 40, 1))
    graph = builder.graph(builder.normalization(builder.softmax(builder.input, heads=4)))
    config = BASE.replace(products=True, softmax=True, normalize_channels=64)
    estimate = estimate_programs([compiler.compile(graph, config)], model="rows")
    assert [layer.bound for layer in estimate.further.layers] == ["rows", "rows"]
