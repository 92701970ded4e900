import numpy as np
import pytest

from weft.digits import MODEL
from weft.runtime.compare import Verifier
from weft.runtime.session import InferenceSession


@pytest.fixture(scope="module")
def frame():
    """A session on the functional device, inputs, and what it computes from them."""
    rng = np.random.default_rng(11)
    feeds = {"input": rng.uniform(0, 16, (1, 1, 8, 8)).astype(np.float32)}
    with InferenceSession(MODEL, device="functional", keep_tensors=True) as session:
        yield session.plan, feeds, session.run_frame(feeds, tensors=True)


def copies(result):
    return ([value.copy() for value in result.outputs],
            {name: value.copy() for name, value in result.tensors.items()})


def test_equal_tensors_have_no_mismatch(frame):
    graph, feeds, result = frame
    check = Verifier(graph).check(feeds, result.outputs, result.tensors)
    assert check.mismatches == () and check.count == 0
    assert check.total == 32 * 64 + 64 * 16 + 32 * 16 + 10 + 4 * 10


def test_mismatches_come_in_execution_order(frame):
    graph, feeds, result = frame
    outputs, tensors = copies(result)
    tensors["conv3.out_QuantizeLinear_Output"][0, 5] ^= 1
    tensors["conv1.out_QuantizeLinear_Output"][0, 31, 7, 6:] ^= 1
    check = Verifier(graph).check(feeds, outputs, tensors)
    assert [mismatch.layer for mismatch in check.mismatches] == ["conv1", "conv3"]
    first, second = check.mismatches
    assert first.index == (0, 31, 7, 6)
    assert (first.count, first.total) == (2, 32 * 64)
    assert second.index == (0, 5, 0, 0)
    assert check.count == 2 + 16
    assert str(first) == (
        f"conv1: element [0, 31, 7, 6] of tensor 'conv1.out_QuantizeLinear_Output' is "
        f"{first.got}, onnxruntime gives {first.expected} (2 of 2048 bytes differ)")
    assert abs(first.got - first.expected) == 1


def test_zeros_of_different_sign_differ(frame):
    graph, feeds, _result = frame
    verifier = Verifier(graph, layers=False)
    zeros = np.zeros((1, 10), np.float32)
    verifier._golden.run = lambda feeds: {"logits": zeros}
    assert verifier.check(feeds, [zeros], {}).count == 0
    assert verifier.check(feeds, [-zeros], {}).count == 10


def test_layers_can_be_left_out(frame):
    graph, feeds, result = frame
    check = Verifier(graph, layers=False).check(feeds, result.outputs, {})
    assert check.total == 4 * 10


def test_shape_wrong(frame):
    graph, feeds, result = frame
    outputs, tensors = copies(result)
    name = "conv1.out_QuantizeLinear_Output"
    tensors[name] = tensors[name][0]
    with pytest.raises(ValueError, match=rf"^Tensor '{name}' must be int8 \[1, 32, 8, 8\], "
                                         r"not int8 \[32, 8, 8\]$"):
        Verifier(graph).check(feeds, outputs, tensors)
