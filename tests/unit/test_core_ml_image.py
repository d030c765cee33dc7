"""Examples become pictures and labels outputs again, as the converter noted in the program."""

from __future__ import annotations

import numpy as np

from workers.runtimes.core_ml_image import INTERFACE, ImageInterface, read_interface

TAKEN = ImageInterface(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0), labels=("cat", "crane", "crane (2)"))


def test_the_interface_is_read_back() -> None:
    assert read_interface({INTERFACE: TAKEN.text}) == TAKEN
    assert read_interface({}) is None


def test_a_normalised_image_becomes_pixels() -> None:
    pixels = np.array([[[0, 128, 255]]], dtype=np.uint8)  # one pixel: red, green, blue
    mean, std = np.array(TAKEN.mean), np.array(TAKEN.std)
    image = ((pixels / 255 - mean) / std).transpose(2, 0, 1)[None].astype(np.float32)
    assert (TAKEN.to_pixels(image) == pixels).all()


def test_what_a_picture_cannot_hold_is_cut_off() -> None:
    image = np.array([9.0, -9.0, 0.5], dtype=np.float32).reshape(1, 3, 1, 1)
    assert TAKEN.to_pixels(image).ravel().tolist() == [255, 0, 128]


def test_scores_are_in_the_order_of_the_classes() -> None:
    scores = TAKEN.to_scores({"crane (2)": 3.0, "cat": 1.0, "crane": 2.0})
    assert scores.tolist() == [[1.0, 2.0, 3.0]]
