"""Real pre-trained networks through the RTL, byte for byte; needs the shared models."""

from pathlib import Path

import numpy as np
import onnx
import onnx.utils
import pytest
from configs import CONFIGS

from weft.golden import cpu_is_exact
from weft.session import InferenceSession
from weft.verify import Verifier

MODELS = Path(__file__).parents[3] / "shared" / "models"
pytestmark = pytest.mark.skipif(not MODELS.is_dir(), reason="needs ../shared/models")


def check_frames(model, config, feeds):
    """Every layer of every frame, on the RTL, equals the functional device, and onnxruntime where
    its kernels are exact."""
    with InferenceSession(model, config=config, keep_tensors=True) as session, \
            InferenceSession(model, config=config, keep_tensors=True,
                             device="functional") as functional:
        verifier = Verifier(session.plan)
        for feed in feeds:
            frame, expected = (each.run_frame(feed, tensors=True) for each in (session, functional))
            assert frame.tensors.keys() == expected.tensors.keys() != set()
            for name, values in expected.tensors.items():
                np.testing.assert_array_equal(frame.tensors[name], values, err_msg=name)
            if cpu_is_exact():
                check = verifier.check(feed, frame.outputs, frame.tensors)
                assert check.mismatches == ()
                assert check.total >= sum(values.nbytes for values in frame.tensors.values())


@pytest.fixture(scope="module")
def stem():
    """ResNet-8 up to its first residual addition: three 3x3 convolutions."""
    model = onnx.shape_inference.infer_shapes(onnx.load(MODELS / "ic_resnet8_int8.onnx"))
    add = next(node for node in model.graph.node if node.op_type == "Add")
    return onnx.utils.Extractor(model).extract_model(["input_1"], list(add.input))


@pytest.mark.parametrize("name", CONFIGS)
def test_first_layers_of_resnet8(name, stem):
    images = np.load(MODELS / "ic_resnet8_int8.npz")["input"]
    check_frames(stem, CONFIGS[name], [{"input_1": image[None]} for image in images[:2]])
