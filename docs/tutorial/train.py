"""Trains a network on handwritten digits and writes it as float32 ONNX: digits.onnx.

The network: 64 pixels, a fully connected layer of 32 with Relu, one of 10.
"""

import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.neural_network import MLPClassifier

from weft.digits import load_training

images, labels = load_training()            # float32 [1347, 1, 8, 8] of 0..16
pixels = images.reshape(len(images), 64)

classifier = MLPClassifier(hidden_layer_sizes=(32,), alpha=1e-2, random_state=7)
for _ in range(60):
    classifier.partial_fit(pixels, labels, classes=range(10))

arrays = {}
for name, weights, bias in zip(("hidden", "out"), classifier.coefs_, classifier.intercepts_):
    arrays[f"{name}.weight"] = weights.astype("float32")
    arrays[f"{name}.bias"] = bias.astype("float32")

model = helper.make_model(helper.make_graph(
    [helper.make_node("Flatten", ["input"], ["flat"], name="flatten"),
     helper.make_node("Gemm", ["flat", "hidden.weight", "hidden.bias"], ["sum"], name="hidden"),
     helper.make_node("Relu", ["sum"], ["active"], name="relu"),
     helper.make_node("Gemm", ["active", "out.weight", "out.bias"], ["logits"], name="out")],
    "digits",
    [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 1, 8, 8])],
    [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10])],
    [numpy_helper.from_array(array, name) for name, array in arrays.items()]),
    opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.save(model, "digits.onnx")
print(f"digits.onnx: {classifier.score(pixels, labels):.1%} of the training images")
