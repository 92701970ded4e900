"""Writes images as files: for calibration calibration.npz and labels.txt, to run images.npz."""

import numpy as np

from weft.digits import load, load_training

images, labels = load_training()
np.savez("calibration.npz", input=images[:200])
np.savetxt("labels.txt", labels[:200], fmt="%d")

images, labels = load()                     # held out: not seen by the training
np.savez("images.npz", input=images[:20], labels=labels[:20])
print("calibration.npz, labels.txt, images.npz")
