"""Pictures: what their titles claim is what the numbers say, every image lands where it should, nothing is shown."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from minicnn import visualize
from minicnn.errors import ArgumentError, ShapeError

HISTORY = {"loss": [0.5, 0.2, 0.1], "accuracy": [0.8, 0.93, 0.97], "val_loss": [0.3, 0.2, 0.25],
           "val_accuracy": [0.9, 0.951, 0.948], "learning_rate": [1e-3, 5e-4, 1e-6]}


def title(figure: Figure) -> str:
    return figure.get_suptitle()


def drawn_images(figure: Figure) -> list[np.ndarray]:
    return [np.asarray(image.get_array()) for ax in figure.axes for image in ax.images]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def is_png(figure: Figure) -> bool:
    return figure._repr_png_().startswith(b"\x89PNG\r\n\x1a\n")


def test_the_sample_grid_has_a_row_per_class_with_the_first_images_of_it(rng):
    x = rng.integers(0, 256, (11, 6, 5), dtype=np.uint8)
    y = np.array([3, 1, 1, 3, 3, 1, 1, 1, 3, 1, 8])
    figure = visualize.sample_grid(x, y, per_class=2, of="toy images")
    for image, n in zip(drawn_images(figure), [1, 2, 0, 3, 10], strict=True):
        np.testing.assert_array_equal(image, x[n])
    assert title(figure) == "11 toy images of 3 classes; rarest: 8 (1), commonest: 1 (6)"
    assert is_png(figure)
    assert title(visualize.sample_grid(x[:4], y[:4])) == "4 images of 2 classes, 2 of each"


def test_curves_state_the_last_validation_accuracy_and_the_best_epoch():
    figure = visualize.training_curves(HISTORY)
    assert title(figure) == "Validation accuracy 94.80 % after 3 epochs (best: 95.10 % in epoch 2)"
    loss, accuracy, rate = figure.axes
    np.testing.assert_allclose([line.get_ydata() for line in loss.lines], [HISTORY["loss"], HISTORY["val_loss"]])
    np.testing.assert_allclose(accuracy.lines[1].get_ydata(), [90, 95.1, 94.8])
    np.testing.assert_array_equal(accuracy.lines[0].get_xdata(), [1, 2, 3])
    assert rate.get_yscale() == "log"
    assert is_png(figure)


def test_curves_of_one_epoch_without_validation_can_be_drawn():
    figure = visualize.training_curves({"loss": [0.5], "accuracy": [0.8]})
    assert title(figure) == "Training accuracy 80.00 % after 1 epoch"
    assert [line.get_marker() for ax in figure.axes for line in ax.lines] == ["o", "o"]
    assert is_png(figure)


def test_curves_of_a_loss_alone_state_the_loss():
    figure = visualize.training_curves({"loss": [0.5, 0.25], "val_loss": [0.5, 0.3]})
    assert title(figure) == "Loss 0.2500 after 2 epochs"
    assert len(figure.axes) == 1


@pytest.mark.parametrize("history", [{}, {"loss": []}])
def test_curves_without_an_epoch_are_refused(history):
    with pytest.raises(ArgumentError, match="epoch"):
        visualize.training_curves(history)


def test_the_confusion_matrix_names_the_most_frequent_mistake_and_shows_every_count():
    matrix = np.array([[1050, 2, 0], [7, 90, 0], [0, 0, 0]])
    figure = visualize.confusion_matrix(matrix, of="toy images", names=("ant", "bee", "cat"))
    assert title(figure) == "99.22 % of 1,149 toy images right; most frequent mistake:\nbee taken for ant (7 times)"
    shown = texts(figure)
    assert [shown.count(text) for text in ("1,050", "2", "7", "90", "·")] == [1, 1, 1, 1, 5]
    assert "99.8" in shown  # recall of ant: 1050 of 1052
    assert "99.3" in shown  # precision of ant: 1050 of 1057
    assert shown.count("–") == 2  # cat: neither there nor predicted
    assert is_png(figure)


def test_colour_counts_mistakes_only():
    (image,) = drawn_images(visualize.confusion_matrix(np.array([[900, 3], [1, 800]])))
    np.testing.assert_array_equal(np.ma.filled(np.ma.masked_invalid(image), 0), [[0, 3], [1, 0]])


def test_no_mistake_is_said_so():
    assert title(visualize.confusion_matrix(np.diag([4, 5]))) == "100.00 % of 9 images right"
    none = visualize.mistakes(np.zeros((3, 4, 5)), np.arange(3), np.eye(3), of="toy images")
    assert title(none) == "No mistake among 3 toy images"
    assert is_png(none)


def test_mistakes_come_surest_first_with_both_probabilities(rng):
    x = rng.random((5, 4, 6, 1), dtype=np.float32)
    y = np.array([0, 1, 2, 0, 1])
    probabilities = np.array([[.9, .1, 0], [.6, .3, .1], [.003, .997, 0], [.1, .2, .7], [.2, .8, 0]])
    figure = visualize.mistakes(x, y, probabilities, limit=2)
    for image, n in zip(drawn_images(figure), [2, 3], strict=True):
        np.testing.assert_array_equal(image, x[n, :, :, 0])
    assert title(figure) == "3 of 5 images wrong (60.00 %); the 2 the network was surest about"
    assert [ax.get_title() for ax in figure.axes[:2]] == ["2 taken for 1", "0 taken for 2"]
    assert [ax.get_xlabel() for ax in figure.axes[:2]] == ["1: >99 %   2: 0 %\nno. 2", "2: 70 %   0: 10 %\nno. 3"]


@pytest.mark.parametrize("draw", [
    lambda: visualize.sample_grid(np.zeros((3, 4, 4, 3)), np.zeros(3, int)),
    lambda: visualize.sample_grid(np.zeros((0, 4, 4)), np.zeros(0, int)),
    lambda: visualize.confusion_matrix(np.zeros((3, 2))),
    lambda: visualize.mistakes(np.zeros((3, 4, 4)), np.zeros(3, int), np.zeros(3)),
    lambda: visualize.mistakes(np.zeros((3, 4, 4)), np.zeros(2, int), np.zeros((3, 10))),
])
def test_wrong_shapes_are_refused(draw):
    with pytest.raises(ShapeError, match="expected"):
        draw()


def test_drawing_leaves_pyplot_alone():
    code = ("import sys, numpy as np; from minicnn import visualize;"
            "visualize.confusion_matrix(np.eye(2))._repr_png_(); print('matplotlib.pyplot' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
