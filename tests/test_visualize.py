"""Pictures: what their titles claim is what the numbers say, every image lands where it should, nothing is shown."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure

from minicnn import visualize
from minicnn.errors import ArgumentError, ShapeError, StateError
from minicnn.layers import Conv2D, Dense, Flatten, Input, MaxPooling2D
from minicnn.models import Sequential
from minicnn.statistics import wilson_interval

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
    assert title(figure) == "11 toy images of 3 classes;\nrarest: 8 (1), commonest: 1 (6)"
    assert is_png(figure)
    assert title(visualize.sample_grid(x[:4], y[:4])) == "4 images of 2 classes, 2 of each"


def test_curves_state_the_last_validation_accuracy_and_the_best_epoch():
    figure = visualize.training_curves(HISTORY)
    assert title(figure) == "Validation accuracy 94.80 % after 3 epochs\n(best: 95.10 % in epoch 2)"
    loss, accuracy, rate = figure.axes
    np.testing.assert_allclose([line.get_ydata() for line in loss.lines], [HISTORY["loss"], HISTORY["val_loss"]])
    np.testing.assert_allclose(accuracy.lines[1].get_ydata(), [90, 95.1, 94.8])
    np.testing.assert_array_equal(accuracy.lines[0].get_xdata(), [1, 2, 3])
    assert rate.get_yscale() == "log"
    assert is_png(figure)


def test_a_learning_rate_that_hardly_changes_is_drawn_from_zero():
    for rates in ([1e-3, 1e-3, 5e-4], [0, 0, 0]):
        rate = visualize.training_curves({"loss": [3, 2, 1], "learning_rate": rates}).axes[-1]
        assert (rate.get_yscale(), rate.get_ylim()[0]) == ("linear", 0)
        assert rate.get_ylim()[1] > max(rates)
        np.testing.assert_array_equal(rate.lines[0].get_ydata(), rates)


def test_the_learning_rate_is_said():
    for rates, words in (([1e-3, 1e-3, 5e-4], "Learning rate: from 0.001 to 0.0005"),
                         ([1e-3, 1e-3, 1e-3], "Learning rate: 0.001 throughout")):
        figure = visualize.training_curves({"loss": [3, 2, 1], "learning_rate": rates})
        assert figure.axes[-1].get_title() == words


def test_curves_of_one_epoch_without_validation_can_be_drawn():
    figure = visualize.training_curves({"loss": [0.5], "accuracy": [0.8]})
    assert title(figure) == "Training accuracy 80.00 % after 1 epoch"
    assert [line.get_marker() for ax in figure.axes for line in ax.lines] == ["o", "o"]
    assert is_png(figure)


def test_curves_of_a_loss_alone_state_the_loss():
    figure = visualize.training_curves({"loss": [0.5, 0.25], "val_loss": [0.5, 0.3]})
    assert title(figure) == "Loss 0.2500 after 2 epochs"
    assert len(figure.axes) == 1


def test_curves_give_the_interval_and_mark_the_epoch_that_was_kept():
    figure = visualize.training_curves(HISTORY, validation_images=1000, kept=2)
    low, high = wilson_interval(951, 1000)
    assert title(figure) == ("Validation accuracy 95.10 % in epoch 2 of 3, which was kept\n"
                             f"(95 % interval {100 * low:.2f} to {100 * high:.2f} on 1,000 images)")
    for ax in figure.axes:
        np.testing.assert_array_equal(ax.lines[-1].get_xdata(), [2, 2])
    assert texts(figure) == ["kept"]


def test_a_first_epoch_far_off_is_written_instead_of_squeezing_the_others():
    history = {"loss": [9.0, 0.5, 0.4, 0.3], "val_loss": [0.35, 0.45, 0.4, 0.5],
               "accuracy": [0.5, 0.97, 0.98, 0.99], "val_accuracy": [0.25, 0.98, 0.98, 0.98]}
    loss, accuracy = (figure := visualize.training_curves(history)).axes
    np.testing.assert_allclose(loss.get_ylim(), (0.28, 0.52))
    np.testing.assert_allclose(accuracy.get_ylim(), (96.8, 99.2))
    legends = [[text.get_text() for text in ax.get_legend().get_texts()] for ax in figure.axes]
    assert legends == [["training (epoch 1, off the scale: 9)", "validation"],
                       ["training (epoch 1, off the scale: 50.0)", "validation (epoch 1, off the scale: 25.0)"]]
    assert is_png(figure)
    near = visualize.training_curves({key: [values[1], *values[1:]] for key, values in history.items()})
    assert [text.get_text() for text in near.axes[0].get_legend().get_texts()] == ["training", "validation"]
    (alone,) = visualize.training_curves({"loss": history["loss"]}).axes
    assert [text.get_text() for text in alone.get_legend().get_texts()] == ["training (epoch 1, off the scale: 9)"]


@pytest.mark.parametrize("history", [{}, {"loss": []}])
def test_curves_without_an_epoch_are_refused(history):
    with pytest.raises(ArgumentError, match="epoch"):
        visualize.training_curves(history)


def test_the_confusion_matrix_names_the_most_frequent_mistake_and_shows_every_count():
    matrix = np.array([[1050, 2, 0], [7, 90, 0], [0, 0, 0]])
    figure = visualize.confusion_matrix(matrix, of="toy images", names=("ant", "bee", "cat"))
    assert title(figure) == "99.22 % of 1,149 toy images right\nmost frequent mistake: bee taken for ant (7 times)"
    shown = texts(figure)
    assert [shown.count(text) for text in ("1,050", "2", "7", "90", "·")] == [1, 1, 1, 1, 5]
    # recall, precision and F1 of ant: 1050 of 1052, of 1057, and 2100 of 2109; of bee: 90 of 97, of 92, 180 of 189
    assert [text for text in shown if "." in text] == ["99.8", "92.8", "99.3", "97.8", "99.6", "95.2"]
    assert shown.count("–") == 3  # cat: neither there nor predicted
    assert is_png(figure)


def test_no_rate_is_rounded_up_to_perfect():
    figure = visualize.confusion_matrix(np.array([[99_999, 1], [0, 5]]))
    assert [text for text in texts(figure) if "." in text] == ["99.9", "100.0", "100.0", "83.3", "99.9", "90.9"]


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


def test_disputed_mistakes_are_framed_and_say_so():
    y = np.array([0, 1, 2, 0])
    probabilities = np.array([[0, 1, 0], [.9, .1, 0], [.8, 0, .2], [1, 0, 0]])
    figure = visualize.mistakes(np.zeros((4, 5, 4)), y, probabilities, disputed=(2, 3, 77))
    assert title(figure) == ("3 of 4 images wrong (75.00 %); the surest mistakes first\n"
                             "framed: 1 image whose label human reviewers dispute")
    widths = [ax.spines["left"].get_linewidth() for ax in figure.axes[:3]]
    assert widths[0] == widths[1] < widths[2]
    assert [ax.get_xlabel().endswith("disputed") for ax in figure.axes[:3]] == [False, False, True]


def confused(rng):
    """Twelve images: 1 taken for 2 twice, 2 for 1 once, 0 for 2 twice, 2 for 0 never, the others right."""
    y = np.array([1, 1, 2, 0, 0, 0, 1, 2, 2, 1, 0, 2])
    taken = np.array([2, 2, 1, 2, 2, 0, 1, 2, 2, 1, 0, 2])
    sure = np.array([.5, .7, .6, .9, .55, 1, 1, 1, 1, 1, 1, 1])
    probabilities = np.full((12, 4), 0.1) * (1 - sure[:, None])
    probabilities[np.arange(12), taken] = sure
    probabilities[8, [0, 2]] = 0.02, 0.98
    return rng.random((12, 6, 5)), y, probabilities


def test_the_pair_confused_most_comes_first_with_examples_of_both(rng):
    x, y, probabilities = confused(rng)
    figure = visualize.confused_pairs(x, y, probabilities, examples=2, of="toy images", disputed=[2])
    assert title(figure) == "1 and 2 are confused most: 3 of 5 mistakes on 12 toy images"
    heads = [block.get_suptitle() for block in figure.subfigs]
    assert heads == ["1 taken for 2: twice", "2 taken for 1: once", "0 taken for 2: twice",
                     "2 taken for 0: never; the nearest to it"]
    for image, n in zip(drawn_images(figure), [1, 0, 2, 3, 4, 8, 7], strict=True):    # the surest first
        np.testing.assert_array_equal(image, x[n])
    labels = [ax.get_xlabel() for ax in figure.axes if ax.images]
    assert [n for n, ax in enumerate(figure.axes) if ax.spines["top"].get_linewidth() > 2] == [2]
    assert figure.get_supxlabel().endswith("Framed: its label is disputed.")
    assert labels == ["70 %\nno. 1", "50 %\nno. 0", "60 %\nno. 2", "90 %\nno. 3", "55 %\nno. 4",
                      "2 %\nno. 8", "0 %\nno. 7"]
    assert is_png(figure)


def test_only_so_many_pairs_and_examples_are_drawn(rng):
    figure = visualize.confused_pairs(*confused(rng), pairs=1, examples=1, names=("ant", "bee", "cat", "dog"))
    assert title(figure) == "bee and cat are confused most: 3 of 5 mistakes on 12 images"
    assert [block.get_suptitle() for block in figure.subfigs] == ["bee taken for cat: twice", "cat taken for bee: once"]
    assert len(drawn_images(figure)) == 2
    assert "Framed" not in figure.get_supxlabel()


def test_without_a_mistake_no_pair_is_confused():
    figure = visualize.confused_pairs(np.zeros((3, 4, 5)), np.arange(3), np.eye(3), of="toy images")
    assert title(figure) == "No mistake among 3 toy images"
    assert is_png(figure)


# --- inside a network --------------------------------------------------------------------------------------------

@pytest.fixture
def network(reference_kernels):
    """Two convolutional layers of 3 and 2 filters, the second without ReLU, on images of 6 x 5 pixels."""
    return Sequential([Input((6, 5, 1)), Conv2D(3, (3, 2), activation="relu", name="first"), MaxPooling2D((2, 1)),
                       Conv2D(2, (2, 3), name="second"), Flatten(), Dense(4, activation="softmax")], seed=3)


def test_feature_maps_are_the_outputs_of_each_convolution(network, rng):
    image = rng.random((6, 5), dtype=np.float32)
    first, pool, second = network.layers[:3]
    first.params["kernel"][..., 1] = 0                                        # a filter that sees nothing
    figure = visualize.feature_maps(network, image, of="noise")
    out = first.forward(image[None, :, :, None])                              # (1, 4, 4, 3)
    deeper = second.forward(pool.forward(out))                                # (1, 1, 2, 2)
    expected = [image, *np.moveaxis(out[0], -1, 0), *np.moveaxis(deeper[0], -1, 0)]
    for drawn, one in zip(drawn_images(figure), expected, strict=True):
        np.testing.assert_array_equal(drawn, one)
    counts = [sum(np.abs(one - np.median(one)).max() > 0.1 * np.abs(layer).max() for one in np.moveaxis(layer, -1, 0))
              for layer in (out[0], deeper[0])]
    assert 0 < counts[0] < 3                                                  # the filter of zeros does not respond
    assert title(figure) == f"{sum(counts)} of 5 feature maps respond to noise"
    assert [block.get_suptitle() for block in figure.subfigs[1:]] == [
        f"first: 3 maps of 4x4, {counts[0]} respond", f"second: 2 maps of 1x2, {counts[1]} respond"]
    assert is_png(figure)


def test_a_channel_axis_makes_no_difference(network, rng):
    image = rng.random((6, 5), dtype=np.float32)
    for one, other in zip(*(drawn_images(visualize.feature_maps(network, x)) for x in (image, image[..., None]))):
        np.testing.assert_array_equal(one, other)


def test_filters_show_the_strongest_input_and_count_the_idle(network):
    kernel, deeper = (network.layers[k].params["kernel"] for k in (0, 2))    # (3, 2, 1, 3), (2, 3, 3, 2)
    kernel[..., 2] *= 0.01
    deeper[:, :, 1, 0], deeper[:, :, 2, 1] = 5, -7
    figure = visualize.filters(network)
    expected = [*np.moveaxis(kernel[:, :, 0], -1, 0), deeper[:, :, 1, 0], deeper[:, :, 2, 1]]
    for drawn, one in zip(drawn_images(figure), expected, strict=True):
        np.testing.assert_array_equal(drawn, one)
    assert title(figure) == "5 filters in 2 layers; 1 nearly unused"
    assert [block.get_suptitle() for block in figure.subfigs] == [
        "first: 3 filters of 3x2", "second: 2 filters of 2x3, each on the strongest of its 3 inputs"]
    low, high = figure.subfigs[1].axes[0].images[0].get_clim()
    assert -low == high == pytest.approx(7)                                   # white is zero


def test_networks_and_images_that_do_not_fit_are_refused(network):
    with pytest.raises(ShapeError, match=r"\(6, 5, 1\)"):
        visualize.feature_maps(network, np.zeros((5, 6)))
    for draw in (visualize.filters, lambda model: visualize.feature_maps(model, np.zeros((6, 5)))):
        with pytest.raises(ArgumentError, match="Conv2D"):
            draw(Sequential([Input((6, 5, 1)), Flatten(), Dense(2)]))
        with pytest.raises(StateError, match="not built"):
            draw(Sequential([Conv2D(2, 3)]))


# --- refusals ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("draw", [
    lambda: visualize.sample_grid(np.zeros((3, 4, 4, 3)), np.zeros(3, int)),
    lambda: visualize.sample_grid(np.zeros((0, 4, 4)), np.zeros(0, int)),
    lambda: visualize.confusion_matrix(np.zeros((3, 2))),
    lambda: visualize.mistakes(np.zeros((3, 4, 4)), np.zeros(3, int), np.zeros(3)),
    lambda: visualize.mistakes(np.zeros((3, 4, 4)), np.zeros(2, int), np.zeros((3, 10))),
    lambda: visualize.confused_pairs(np.zeros((3, 4, 4)), np.zeros((3, 1), int), np.zeros((3, 10))),
])
def test_wrong_shapes_are_refused(draw):
    with pytest.raises(ShapeError, match="expected"):
        draw()


def test_drawing_leaves_pyplot_alone():
    code = ("import sys, numpy as np; from minicnn import visualize;"
            "visualize.confusion_matrix(np.eye(2))._repr_png_(); print('matplotlib.pyplot' in sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
