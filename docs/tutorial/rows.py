"""Recurrent networks in PyTorch that read digits row by row: trained, quantized, and run.

    python docs/tutorial/rows.py [--config base] [--device functional]

The images are the handwritten digits of scikit-learn: 8 time steps of a row of 8 pixels.
"""

import torch
from textbook import arguments, digits, heading, side_by_side
from torch import nn
from torch.nn import functional


class Reader(nn.Module):
    """A recurrent layer over the rows of an image, and a linear one on its last state."""

    def __init__(self, layer):
        super().__init__()
        self.recurrent = layer(8, 128, batch_first=True)
        self.classify = nn.Linear(128, 10)

    def forward(self, rows):
        states, _ = self.recurrent(rows)
        return self.classify(states[:, -1])


NETWORKS = {"LSTM": nn.LSTM, "GRU": nn.GRU}


def rows_of(images):
    """float32 [N, 1, 8, 8] of 0..16 to a tensor [N, 8 steps, 8 pixels] of 0..1."""
    return torch.from_numpy(images[:, 0] / 16)


def shifted(images):
    """Images moved by a pixel, or not, in a random direction."""
    top, left = torch.randint(0, 3, (2,)).tolist()
    return functional.pad(images, (1, 1, 1, 1))[:, top:top + 8, left:left + 8]


def train(network, images, labels, epochs):
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            scores = network(shifted(images[batch]))
            functional.cross_entropy(scores, labels[batch]).backward()
            optimizer.step()
        schedule.step()
    return network.eval()


def main():
    options = arguments(__doc__, epochs=120)

    torch.manual_seed(7)
    torch.set_num_threads(1)                # products as small as these are no faster on more
    images, labels, held_out, truth = digits(rows_of, options.frames)

    print(heading())
    for name, layer in NETWORKS.items():
        network = train(Reader(layer), images, labels, options.epochs)
        print(side_by_side(name, network, images[:200], held_out, truth, options))


if __name__ == "__main__":
    main()
