import itertools
import re

import numpy as np
import pytest
from PIL import Image

from weft.errors import InputError
from weft.quantize import (
    ImageFrames,
    Pixels,
    array_frames,
    calibration_frames,
    random_frames,
)

SHAPES = {"image": (1, 3, 8, 8)}


@pytest.fixture
def folder(tmp_path):
    """Two images of 12 x 10 pixels, red on the left and green on the right, and a text file."""
    pixels = np.zeros((10, 12, 3), np.uint8)
    pixels[:, :6, 0], pixels[:, 6:, 1] = 255, 51
    Image.fromarray(pixels).save(tmp_path / "b.png")
    Image.fromarray(pixels[:, ::-1]).save(tmp_path / "a.bmp")
    (tmp_path / "notes.txt").write_text("none")
    return tmp_path


def refused(message, make, *arguments):
    with pytest.raises(InputError, match=f"^{re.escape(message)}$"):
        make(*arguments)


def test_images_come_in_the_order_of_their_names(folder):
    frames = ImageFrames(folder, SHAPES)
    assert [path.name for path in frames.paths] == ["a.bmp", "b.png"] and len(frames) == 2
    first, second = (frames[position]["image"] for position in range(2))
    assert first.dtype == np.float32 and first.shape == (1, 3, 8, 8)
    np.testing.assert_allclose(second[0, :, 3, 0], [1, 0, 0], atol=0.01)
    np.testing.assert_allclose(second[0, :, 3, 7], [0, 0.2, 0], atol=0.01)
    np.testing.assert_allclose(first[0, :, 3, 0], [0, 0.2, 0], atol=0.01)


def test_pixels_are_normalized_by_channel(folder):
    frame = ImageFrames(folder, SHAPES, Pixels(mean=(0.5, 0.1, 0), std=(0.5, 0.1, 2)))[1]["image"]
    np.testing.assert_allclose(frame[0, :, 3, 0], [1, -1, 0], atol=0.05)
    np.testing.assert_allclose(frame[0, :, 3, 7], [-1, 1, 0], atol=0.05)


def test_channels_last_are_the_same_image(folder):
    first = ImageFrames(folder, SHAPES)[1]["image"]
    last = ImageFrames(folder, {"image": (1, 8, 8, 3)})[1]["image"]
    np.testing.assert_array_equal(last, first.transpose(0, 2, 3, 1))


def test_grey_image(folder):
    frame = ImageFrames(folder, {"image": (1, 1, 8, 8)}, Pixels(channels=1))[1]["image"]
    assert frame.shape == (1, 1, 8, 8)
    np.testing.assert_allclose(frame[0, 0, 3, 0], 0.299, atol=0.01)     # red, as it is seen


def test_size_is_that_of_the_shorter_side(folder):
    # 12 x 10 scaled by 2: the middle 8 x 8 of 24 x 20 has its left half red.
    frame = ImageFrames(folder, SHAPES, Pixels(size=20))[1]["image"]
    np.testing.assert_allclose(frame[0, 0, 3], [1] * 3 + [0.75, 0.25] + [0] * 3, atol=0.02)


def test_folder_without_images_wrong(tmp_path):
    with pytest.raises(InputError, match=rf"^Folder {tmp_path} must have images \(.bmp, .*\); it "
                                         r"has none$"):
        ImageFrames(tmp_path, SHAPES)
    refused(f"Calibration {tmp_path / 'none'} must be a folder of images or an .npz file",
            ImageFrames, tmp_path / "none", SHAPES)


def test_damaged_image_wrong(folder):
    (folder / "a.bmp").write_bytes(b"BM")
    with pytest.raises(InputError, match=f"^Image {folder / 'a.bmp'} cannot be read: "):
        ImageFrames(folder, SHAPES)[0]


@pytest.mark.parametrize("pixels, message", [
    (Pixels(mean=(0, 0)), "Mean of pixels must be 1 or 3 numbers, not 0,0"),
    (Pixels(std=(1, 1)), "Deviation of pixels must be 1 or 3 numbers, not 1,1"),
    (Pixels(std=(0,)), "Deviation of pixels must be positive, not 0"),
    (Pixels(mean=(float("nan"),)), "Mean of pixels must be 1 or 3 numbers, not nan"),
    (Pixels(size=7), "Size of images must be at least 8, the larger side of the network's input, "
                     "not 7"),
    (Pixels(layout="nhwc"), "Input 'image' must be of one image (nhwc) with 1 or 3 channels, not "
                            "of shape 1,3,8,8"),
    (Pixels(channels=1), "Input 'image' must be of one image (nchw or nhwc) with 1 channels, not "
                         "of shape 1,3,8,8"),
])
def test_pixels_that_do_not_fit_wrong(folder, pixels, message):
    refused(message, ImageFrames, folder, SHAPES, pixels)


def test_images_for_two_inputs_wrong(folder):
    refused("Images can calibrate a model of one input, not of 2 (a, b): give an .npz file",
            ImageFrames, folder, {"a": (1, 3, 8, 8), "b": (1, 2)})


def test_arrays_become_frames():
    values = np.arange(24).reshape(2, 12)
    frames = array_frames({"input": values, "other": values}, {"x": (1, 12)})
    assert len(frames) == 2 and frames[1]["x"].dtype == np.float32
    np.testing.assert_array_equal(frames[1]["x"], values[1:])
    assert array_frames({"x": np.zeros((3, 2, 5))}, {"x": (2, 5)})[0]["x"].shape == (2, 5)


@pytest.mark.parametrize("arrays, message", [
    ({"y": np.zeros((2, 4))}, "Calibration arrays must have an array 'x'; it has 'y'"),
    ({}, "Calibration arrays must have an array 'x'; it has none"),
    ({"x": np.zeros((2, 5))}, "Array 'x' of calibration arrays must have shape [frames, 4], not "
                              "[2, 5]"),
    ({"x": np.zeros((0, 4))}, "Array 'x' of calibration arrays must have shape [frames, 4], not "
                              "[0, 4]"),
    ({"x": np.zeros(())}, "Array 'x' of calibration arrays must have shape [frames, 4], not []"),
    ({"x": np.full((1, 4), np.nan)}, "Array 'x' of calibration arrays must be finite"),
    ({"x": np.full((1, 4), "a")}, "Array 'x' of calibration arrays must have numbers, not <U1"),
])
def test_arrays_that_do_not_fit_wrong(arrays, message):
    refused(message, array_frames, arrays, {"x": (1, 4)})


def test_arrays_of_different_counts_wrong():
    refused("Arrays of calibration arrays must have the same number of frames, not 2 and 3",
            array_frames, {"a": np.zeros((2, 4)), "b": np.zeros((3, 4))},
            {"a": (1, 4), "b": (1, 4)})


def test_noise_is_that_of_its_seed():
    first, second, other = (random_frames({"x": (1, 50)}, 2, seed=seed)[1]["x"]
                            for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, second)
    assert not np.array_equal(first, other)
    refused("Number of random frames must be at least 1, not 0", random_frames, {"x": (1, 5)}, 0)


# All forms of data --------------------------------------------------------------------------------

class Tensor:
    """As one of PyTorch: numpy takes it once it is detached and on this machine."""

    def __init__(self, values):
        self._values = values

    def detach(self):
        return self

    def cpu(self):
        return self._values


VALUES = np.random.default_rng(0).standard_normal((4, 1, 2, 2)).astype(np.float32)


@pytest.mark.parametrize("data", [
    VALUES, Tensor(VALUES).cpu(), {"x": VALUES}, {"input": VALUES}, list(VALUES), iter(VALUES),
    [VALUES[:3], VALUES[3:]], [VALUES[:1], (VALUES[1:], np.zeros(3))], [{"x": VALUES}],
    [Tensor(VALUES[:2]), [Tensor(VALUES[2:]), "labels"]],
    ((image, label) for label, image in enumerate(VALUES))])
def test_arrays_and_batches_of_them_are_the_same_frames(data):
    frames = calibration_frames(data, {"x": (1, 1, 2, 2)})
    np.testing.assert_array_equal(np.concatenate([frame["x"] for frame in frames]), VALUES)


def test_items_for_two_inputs():
    items = [(VALUES, VALUES[:, 0, 0]), {"b": VALUES[0, 0, :1], "a": VALUES[0]}]
    frames = calibration_frames(items, {"a": (1, 1, 2, 2), "b": (1, 2)})
    assert len(frames) == 5 and frames[4]["a"].shape == (1, 1, 2, 2)
    np.testing.assert_array_equal(frames[1]["b"], VALUES[1:2, 0, 0])


def test_files_and_noise_are_data(folder, tmp_path):
    assert len(calibration_frames(str(folder), SHAPES)) == 2
    np.savez(tmp_path / "x.npz", x=VALUES)
    assert len(calibration_frames(tmp_path / "x.npz", {"x": (1, 1, 2, 2)})) == 4
    assert len(calibration_frames("random:3", SHAPES)) == 3


@pytest.mark.parametrize("data, message", [
    ("random:", "Noise must be random:N with a number of frames, not 'random:'"),
    ("random:-1", "Noise must be random:N with a number of frames, not 'random:-1'"),
    (7, "Calibration must be a folder, an .npz file, random:N, arrays or tensors, not int"),
    ([VALUES, VALUES[:, :, 1:]], "Array 'x' of calibration item 2 must have shape "
                                 "[frames, 1, 2, 2], not [4, 1, 1, 2]"),
    (VALUES[:, 0], "Array 'input' of calibration arrays must have shape [frames, 1, 2, 2], not "
                   "[4, 2, 2]"),
    ([np.full((1, 2, 2), "cat")], "Array 'x' of calibration item 1 must have numbers, not <U3"),
    ([()], "Calibration item 1 must have 1 arrays, one for each input (x), not 0")])
def test_data_of_no_known_form_wrong(data, message):
    refused(message, calibration_frames, data, {"x": (1, 1, 2, 2)})


def test_data_without_an_end_wrong():
    with pytest.raises(InputError, match=r"^Number of frames must be at most [\d,]+ for a model of "
                                         r"this size, not [\d,]+$"):
        calibration_frames(itertools.repeat(np.zeros((64, 1, 512, 512), np.float32)),
                           {"x": (1, 1, 512, 512)})
