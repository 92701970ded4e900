"""Recognizes the held-out digits, in float32 with onnxruntime and in int8 on the accelerator."""

import onnxruntime

import weft
from weft.digits import load

images, labels = load()


def recognized(session):
    """How many images get the highest score for their label."""
    right = 0
    for image, label in zip(images, labels, strict=True):
        logits, = session.run(None, {"input": image[None]})
        right += int(logits.argmax() == label)
    return right


print(f"float32: {recognized(onnxruntime.InferenceSession('digits.onnx'))} of {len(labels)}")
with weft.InferenceSession("digits_int8.onnx", config="tiny", device="functional") as session:
    print(f"int8: {recognized(session)} of {len(labels)}")
