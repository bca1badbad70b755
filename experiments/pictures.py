"""The pictures of a run: what each is called, what it shows, and what it is drawn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

from digits import scaled
from minicnn import visualize
from minicnn.layers import Conv2D
from minicnn.models import Sequential
from minicnn.statistics import confusion_matrix
from runs import Score


@dataclass(frozen=True)
class Material:
    """What the pictures of a run are drawn from.

    Attributes
    ----------
    score : Score
        Images, labels and probabilities.
    history : mapping
        Of the epochs that ended.
    model : Sequential
    kept : int or None
        The epoch whose weights it has, where that is not the last.
    digit : int
        Number of the test image that is looked at more closely.
    """

    score: Score
    history: Mapping[str, Sequence[float]]
    model: Sequential
    kept: int | None = None
    digit: int = 0


@dataclass(frozen=True)
class Entry:
    """One picture.

    Attributes
    ----------
    title : str
        What it is about, for a page.
    what : str
        What it shows, for a list of files.
    caption : str
        How to read it, for a page.
    draw : callable
        Draws it from a Material.
    can_be_drawn : callable
        Whether the Material has what it shows.
    """

    title: str
    what: str
    caption: str
    draw: Callable[[Material], Figure]
    can_be_drawn: Callable[[Material], bool] = lambda material: True


def _curves(material: Material) -> Figure:
    return visualize.training_curves(material.history, validation_images=material.score.digits.validation or None,
                                     kept=material.kept)


def _confusion(material: Material) -> Figure:
    score = material.score
    matrix = confusion_matrix(score.digits.y_test, score.predicted, score.digits.classes)
    return visualize.confusion_matrix(matrix, of=score.what)


def _confused_pairs(material: Material) -> Figure:
    score = material.score
    return visualize.confused_pairs(score.digits.x_test, score.digits.y_test, score.probabilities, of=score.what,
                                    disputed=score.digits.disputed)


def _mistakes(material: Material) -> Figure:
    score = material.score
    return visualize.mistakes(score.digits.x_test, score.digits.y_test, score.probabilities, of=score.what,
                              disputed=score.digits.disputed)


def _samples(material: Material) -> Figure:
    digits = material.score.digits
    return visualize.sample_grid(digits.x_train, digits.y_train, of=f"{digits.name} training images")


def _feature_maps(material: Material) -> Figure:
    digits, n = material.score.digits, material.digit
    of = f"test image no. {n}, a {digits.y_test[n]}"
    return visualize.feature_maps(material.model, scaled(digits.x_test[n]), of=of)


def _filters(material: Material) -> Figure:
    return visualize.filters(material.model)


def _ended_an_epoch(material: Material) -> bool:
    return bool(material.history.get("loss"))


def _has_convolutions(material: Material) -> bool:
    return any(isinstance(layer, Conv2D) for layer in material.model.layers)


PICTURES = {
    "curves.png": Entry(
        "How it learned", "loss and accuracy, epoch by epoch",
        "Loss and accuracy after each epoch. Where the training line goes on improving and the validation line does "
        "not, the network learns its training images by heart.", _curves, _ended_an_epoch),
    "confusion.png": Entry(
        "What was taken for what", "which class was taken for which, and how often",
        "A row for each true class, a column for what it was taken for. Recall: the share of a class that was found. "
        "Precision: the share of what was called so that is. F1 lies between the two.", _confusion),
    "confused_pairs.png": Entry(
        "Pairs confused most", "the pairs confused most, with examples of both",
        "The classes confused most with each other, both ways, the surest mistakes first; where one way has none, the "
        "images nearest to it.", _confused_pairs),
    "mistakes.png": Entry(
        "Its mistakes", "the test images it got wrong, with its probabilities",
        "Below each image: the probability of the class it was taken for, that of its label, and its number.",
        _mistakes),
    "samples.png": Entry(
        "What it learned from", "what the training images look like",
        "The first training images of each class; at the right, how many there are.", _samples),
    "feature_maps.png": Entry(
        "What its convolutions see", "what the convolutional layers make of one test image",
        "All feature maps of each convolutional layer for one test image: where its filters found what they look for.",
        _feature_maps, _has_convolutions),
    "filters.png": Entry(
        "What they look for", "the filters of the convolutional layers",
        "What the filters look for, as far as a picture can show it: those of the first layer are seen whole, of the "
        "deeper ones only one input each.", _filters, _has_convolutions),
}
OF_A_TRAINING = ("curves.png", "confusion.png", "samples.png", "mistakes.png")      # the others, in a report
