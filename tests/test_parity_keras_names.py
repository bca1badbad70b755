"""Agreement with Keras in what names mean: metrics in the logs, losses as functions, initializers, helpers."""

from __future__ import annotations

import numpy as np
import pytest

from keras_models import NEEDS_KERAS, STILL, dense, pair_of_models
from minicnn import initializers, losses, metrics, utils
from networks import CLASSES, SPARSE, draw_images

pytestmark = NEEDS_KERAS


@pytest.mark.parametrize("make", [
    lambda library: ["accuracy"], lambda library: ["acc"], lambda library: ["Accuracy"],
    lambda library: ["sparse_categorical_accuracy", "acc"],
    lambda library: [library.metrics.sparse_categorical_accuracy],
    lambda library: [library.metrics.SparseCategoricalAccuracy()],
    lambda library: [library.metrics.SparseCategoricalAccuracy(name="hit")]])
def test_metrics_have_the_same_names_in_the_logs(make, rng, reference_kernels):
    import keras

    import minicnn
    ours, theirs = pair_of_models(rng, dense, (4,), **STILL)
    x, y = draw_images(rng, 9, (4,))
    logged = []
    for model, library in ((ours, minicnn), (theirs, keras)):
        model.compile(library.optimizers.SGD(0.0), SPARSE, metrics=make(library))
        logged.append(model.fit(x, y, verbose=0, validation_split=0.4).history)
        logged[-1]["evaluated"] = model.evaluate(x, y, verbose=0)
    assert logged[0].keys() == logged[1].keys()
    for name, values in logged[1].items():
        np.testing.assert_allclose(logged[0][name], values, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("options", [{}, {"from_logits": True}])
def test_losses_as_functions(options, rng):
    import keras
    y = rng.integers(0, CLASSES, 7)
    predicted = rng.standard_normal((7, CLASSES)) if options else rng.dirichlet(np.ones(CLASSES), 7)
    for name, labels in (("sparse_categorical_crossentropy", y), ("categorical_crossentropy", np.eye(CLASSES)[y])):
        theirs = getattr(keras.losses, name)(labels, predicted.astype(np.float32), **options)
        ours = getattr(losses, name)(labels, predicted, **options)
        np.testing.assert_allclose(ours, keras.ops.convert_to_numpy(theirs), rtol=1e-5)


def test_metric_objects(rng):
    import keras
    y, p = rng.integers(0, 4, 23), rng.random((23, 4))
    for name, labels in (("SparseCategoricalAccuracy", y), ("CategoricalAccuracy", np.eye(4)[y])):
        ours, theirs = getattr(metrics, name)(), getattr(keras.metrics, name)()
        assert ours.name == theirs.name
        for batch in (slice(0, 9), slice(9, 23)):
            assert ours(labels[batch], p[batch]) == pytest.approx(float(theirs(labels[batch], p[batch])))
        assert ours.result() == pytest.approx(float(theirs.result()))


SPELLINGS = ("glorot_normal", "GlorotUniform", "he_normal", "HeUniform", "lecun_normal", "LecunUniform", "normal",
             "random_normal", "uniform", "RandomUniform", "TruncatedNormal", "zero", "one", "constant")


@pytest.mark.parametrize("name", SPELLINGS)
def test_initializers_draw_from_the_same_distributions(name):
    """Deviation and largest value of 20,000 numbers."""
    import keras
    shape = (100, 200)
    theirs = keras.initializers.get(name if name != "constant" else keras.initializers.Constant)
    theirs = keras.ops.convert_to_numpy(theirs(shape))
    ours = initializers.get(name)(shape, np.random.default_rng(2))
    assert ours.std() == pytest.approx(theirs.std(), rel=0.02)
    assert ours.mean() == pytest.approx(theirs.mean(), abs=0.003)
    largest = np.abs(theirs).max()
    assert np.abs(ours).max() == pytest.approx(largest, rel=0.25)


@pytest.mark.parametrize("name", ["RandomNormal", "RandomUniform", "TruncatedNormal", "Constant"])
def test_initializers_have_the_same_settings(name):
    import keras
    theirs = getattr(keras.initializers, name)().get_config()
    ours = vars(getattr(initializers, name)())
    assert {key: value for key, value in theirs.items() if key != "seed"} == {
        key: value for key, value in ours.items() if key != "seed"}


def test_helpers(rng):
    import keras
    x = rng.standard_normal((4, 5, 6))
    for options in ({}, {"axis": 1}, {"axis": -1, "order": 1}):
        np.testing.assert_allclose(utils.normalize(x, **options), keras.utils.normalize(x, **options))
    for labels, options in (([2, 0, 1], {}), ([[1], [0]], {"num_classes": 4}), (np.arange(4), {"num_classes": 5})):
        np.testing.assert_array_equal(utils.to_categorical(labels, **options),
                                      keras.utils.to_categorical(labels, **options))
