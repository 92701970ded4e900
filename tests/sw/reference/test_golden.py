import numpy as np
import pytest
from models import QdqBuilder, conv_model, random_inputs

from weft import reference
from weft.errors import InputError, ModelError
from weft.reference import golden
from weft.reference.golden import Exactness, GoldenSession, cpu_is_exact, session_options, to_int8


@pytest.fixture
def model():
    return conv_model(np.random.default_rng(0))


def test_tensors_come_back_after_the_outputs(model):
    session = GoldenSession(model, tensors=["conv_q", "x_q"])
    assert session.names == (model.graph.output[0].name, "conv_q", "x_q")
    inputs = random_inputs(np.random.default_rng(1), model)
    values = session.run(inputs)
    assert tuple(values) == session.names
    assert values["conv_q"].dtype == np.int8 and values["conv_q"].shape == (1, 4, 4, 4)


def test_output_is_not_listed_twice(model):
    name = model.graph.output[0].name
    assert GoldenSession(model, tensors=[name, "conv_q"]).names == (name, "conv_q")


def test_model_is_left_as_it_was(model):
    before = model.SerializeToString()
    GoldenSession(model, tensors=["conv_q"])
    assert model.SerializeToString() == before


def test_model_may_be_a_path(model, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    inputs = random_inputs(np.random.default_rng(1), model)
    for key, value in GoldenSession(path).run(inputs).items():
        np.testing.assert_array_equal(value, GoldenSession(model).run(inputs)[key])


def test_integer_layers_are_not_float_layers(model):
    assert GoldenSession(model, tensors=["conv_q"]).float_layers == ()


def test_float_layers_are_named():
    b = QdqBuilder(np.random.default_rng(0))
    conv = b.conv(b.input("x", (1, 3, 6, 6)), 3, 4, (3, 3), name="conv")
    b.output(conv)
    assert GoldenSession(b.build()).float_layers == ("Conv 'conv'",)


def test_to_int8_moves_unsigned_values():
    unsigned = np.array([[0, 127], [128, 255]], np.uint8)
    np.testing.assert_array_equal(to_int8(unsigned), [[-128, -1], [0, 127]])
    signed = np.array([-128, 127], np.int8)
    assert to_int8(signed) is signed


def test_missing_tensor_wrong(model):
    with pytest.raises(ModelError, match=r"^Tensor 'nowhere' is not in the model$"):
        GoldenSession(model, tensors=["nowhere"])


def test_unloadable_model_wrong(model):
    model.graph.node[0].op_type = "Nonsense"
    with pytest.raises(ModelError, match=r"^onnxruntime cannot load the model: [^\n]+$"):
        GoldenSession(model)


def test_inputs_wrong(model):
    session = GoldenSession(model)
    with pytest.raises(InputError, match=r"^Inputs must be x, not none$"):
        session.run({})
    with pytest.raises(InputError, match=r"^Inputs must be x, not y$"):
        session.run({"y": np.zeros(1)})
    with pytest.raises(InputError, match=r"^onnxruntime cannot run the model: [^\n]+$"):
        session.run({"x": np.zeros((1, 3, 5, 6), np.float32)})


def test_nothing_is_logged(model, capfd):
    session = GoldenSession(model, tensors=["conv_q"])
    session.run(random_inputs(np.random.default_rng(1), model))
    assert session.float_layers == ()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("flags, precise", [
    ({"avx2"}, [True, False]), ({"avx2", "avx_vnni"}, [False]), ({"avx512_vnni"}, [False]),
    (set(), [False])])
def test_slow_exact_kernels_are_tried_first_only_without_vnni(monkeypatch, flags, precise):
    monkeypatch.setattr(golden, "_cpu_flags", lambda: frozenset(flags))
    monkeypatch.setattr(golden, "_is_x86", lambda: True)
    tries = session_options()
    assert len(tries) == len(precise)
    for options, expected in zip(tries, precise, strict=True):
        assert options.get_session_config_entry("session.qdqisint8allowed") == "1"
        if expected:
            assert options.get_session_config_entry("session.x64quantprecision") == "1"
        else:
            with pytest.raises(RuntimeError):
                options.get_session_config_entry("session.x64quantprecision")


@pytest.mark.parametrize("flags", [{"avx2"}, {"avx2", "avx512_vnni"}])
def test_a_model_loads_with_and_without_vnni(monkeypatch, model, flags):
    monkeypatch.setattr(golden, "_cpu_flags", lambda: frozenset(flags))
    monkeypatch.setattr(golden, "_is_x86", lambda: True)
    session = GoldenSession(model, tensors=["conv_q"])
    assert session.run(random_inputs(np.random.default_rng(1), model))["conv_q"].dtype == np.int8


def test_exactness_is_a_truth_value_with_a_reason():
    assert Exactness(exact=True)
    assert not Exactness(exact=False, reason="slow")
    verdict = cpu_is_exact()
    assert verdict.exact == (verdict.reason == "")


def test_saturating_kernels_are_found_out(monkeypatch):
    # Stands in for a CPU that adds pairs of products in 16 bits.
    def saturating(acc, multiplier, out_zero, clamp=(-128, 127)):
        return reference_requantize(np.clip(acc, -(1 << 15), (1 << 15) - 1), multiplier, out_zero,
                                    clamp)

    reference_requantize = reference.requantize
    monkeypatch.setattr(reference, "requantize", saturating)
    cpu_is_exact.cache_clear()
    try:
        verdict = cpu_is_exact()
    finally:
        cpu_is_exact.cache_clear()
    assert not verdict.exact
    assert verdict.reason.startswith("onnxruntime ") and " int8 Conv inexactly" in verdict.reason
