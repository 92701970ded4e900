"""Recognizes the held-out digits on the accelerator, from Python."""

import weft
from weft.digits import load

images, labels = load()

with weft.InferenceSession("digits_int8.onnx", config="tiny", device="functional") as session:
    right = 0
    for image, label in zip(images, labels, strict=True):
        logits, = session.run(None, {"input": image[None]})
        right += int(logits.argmax() == label)
print(f"{right} of {len(labels)} held-out digits are recognized")
