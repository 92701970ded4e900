"""Three textbook networks in PyTorch: trained, quantized, and run on the accelerator.

    python docs/tutorial/textbook.py [--config base] [--device functional]

The images are the handwritten digits of scikit-learn, enlarged to 28 x 28 pixels.
"""

import argparse

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import weft
from weft.digits import load, load_training

NETWORKS = {
    "MLP 784-128-64-10": lambda: nn.Sequential(
        nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 64), nn.ReLU(),
        nn.Linear(64, 10)),
    "CNN 32, 64, 128-10": lambda: nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 7 * 7, 128), nn.ReLU(), nn.Linear(128, 10)),
    "ConvNet 64": lambda: nn.Sequential(
        nn.Conv2d(1, 64, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
        nn.Conv2d(64, 64, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(),
        nn.Flatten(), nn.Linear(64 * 7 * 7, 10)),
}


def enlarged(images):
    """float32 [N, 1, 8, 8] of 0..16 to a tensor [N, 1, 28, 28] of 0..1."""
    return functional.interpolate(torch.from_numpy(images) / 16, size=(28, 28), mode="bilinear")


def train(network, images, labels, epochs):
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()
    return network.eval()


def accuracy(scores, labels):
    return float(np.mean(np.argmax(scores, axis=1) == labels))


def digits(prepare, frames):
    """Images to train with, their labels, and ``frames`` that the training does not see."""
    images, labels = load_training()
    held_out, truth = load()
    return (prepare(images), torch.from_numpy(labels), prepare(held_out[:frames]), truth[:frames])


def heading():
    return f"{'network':20} {'float':>8} {'int8':>8} {'device':>8} {'cycles':>10}  differing"


def side_by_side(name, network, calibration, held_out, truth, options):
    """A line of the table: a trained network in float, in int8 and on the device."""
    with torch.no_grad():
        scores = network(held_out).numpy()
    with weft.from_torch(network, calibration[:1], calibration, config=options.config,
                         device=options.device) as session:
        key = session.get_inputs()[0].name
        device, = session.run(None, {key: held_out.numpy()})
        cycles = session.run_frame({key: held_out[:1].numpy()}).cycles
        golden = session.plan.model.golden()            # the int8 network in onnxruntime
        int8 = np.concatenate([golden.run({key: image[None]})["output"]
                               for image in held_out.numpy()])
    differing = np.count_nonzero(device.view(np.uint8) != int8.view(np.uint8))
    return (f"{name:20} {accuracy(scores, truth):8.2%} {accuracy(int8, truth):8.2%} "
            f"{accuracy(device, truth):8.2%} {cycles or '-':>10}  {differing}")


def arguments(description, epochs):
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--config", default="base")
    parser.add_argument("--device", default="functional")
    parser.add_argument("--frames", type=int, default=225, help="held-out images to run")
    parser.add_argument("--epochs", type=int, default=epochs)
    return parser.parse_args()


def main():
    options = arguments(__doc__, epochs=12)

    torch.manual_seed(7)
    images, labels, held_out, truth = digits(enlarged, options.frames)

    print(heading())
    for name, make in NETWORKS.items():
        network = train(make(), images, labels, options.epochs)
        print(side_by_side(name, network, images[:200], held_out, truth, options))


if __name__ == "__main__":
    main()
