"""MatMul, Softmax, LayerNormalization and recurrent cells of random shapes: the RTL, the functional
device and onnxruntime give the same bytes."""

from dataclasses import replace

import pytest

from fuzz.networks.check import Refused, check_model
from fuzz.networks.sequences import KINDS, draw_sequence

CONFIGS = ("products", "attention_plain")


def check_sequence(kind, index, config):
    model, case = draw_sequence(kind, index, config)
    try:
        passed = check_model(model, case)
    except Refused:     # by the smaller memories
        passed = check_model(model, replace(case, memories={}))
    assert passed.commands.keys() >= KINDS[kind]
    # Of some scales float32 decides about every byte: then all have to be right all the same.
    assert (passed.compared > 0 and passed.golden > 0) or passed.equal


@pytest.mark.parametrize("index", range(2))
@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("kind", KINDS)
def test_sequence_is_right_on_the_rtl(kind, config, index):
    check_sequence(kind, index, config)


@pytest.mark.slow
@pytest.mark.parametrize("index", range(2, 18))
@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("kind", KINDS)
def test_more_sequences_are_right_on_the_rtl(kind, config, index):
    check_sequence(kind, index, config)
