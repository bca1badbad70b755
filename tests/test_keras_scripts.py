"""Scripts as they are written for Keras, in ``tests/scripts``: only their import lines are ours, and they run.

Each is one that public notebooks on digits consist of, with fewer filters and epochs, on a few drawn images.
"""

from __future__ import annotations

import re
import runpy
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from minicnn import optimizers
from minicnn.datasets import mnist
from minicnn.models import Sequential

SCRIPTS = Path(__file__).with_name("scripts")
TRAIN, TEST = 50, 20

# What each warns about, in order, and what it prints at its end.
SAID = {
    "baseline_mlp": (["utils.np_utils", r"predict_classes\(x\)"], r"Baseline Error: \d+\.\d\d%\n\[[\d ]+\]\n"),
    "callbacks_and_files": ([r"save_weights got .* \.h5", r"save got .* \.keras"],
                            r"1/1 - \d+s .*\n\[.*\]\nbest of 4: \d\.\d{3}\n"),
    "datagen_by_hand": (["fit_generator", r"steps_per_epoch=3\.125"],
                        r"Epoch 1\n.*\n?Test loss: .*\nTest accuracy: 0\.\d+\n"),
    "ensemble": ([], r"CNN 2: Epochs=2, .*\n"),
    "explore_cnn": ([], r"Epoch \d/4.*\n(.*\n)*Restoring model weights .*\n"),
    "kaggle_cnn": (["utils.np_utils", "lr=", "fit_generator", "monitor='val_acc'", "'acc'", "'val_acc'"],
                   r"errors: \d+\n"),
    "keras2_mnist_cnn": ([], r"Test accuracy: 0\.\d+\n"),
    "keras3_convnet": ([], r"Test accuracy: 0\.\d+\n"),
    "kfold": ([r"ends in \.keras"], r"Accuracy: mean=.*, n=3\n\d\n"),
    "leaky_relu": (["alpha is called negative_slope"], r"Found \d+ correct labels\n"),
    "lenet": ([r"ends in \.h5"], r"Test loss: \d\.\d{4}, accuracy: \d\.\d{4}\n"),
    "simple_cnn_tf": ([], r"\[\d\.\d+, 0\.\d+\]\n\d\n"),
    "stop_at_accuracy": (["'acc'"], r"cancelling training!\n(.*\n)*\[0.*\] 0\.\d+\n"),
    "transfer": ([], r"Test accuracy: \d\.\d+\n"),
}


@pytest.fixture
def _a_folder_with_digits(tmp_path, monkeypatch, reference_kernels):
    """MNIST in few images, Kaggle's files of as few rows, and none of minicnn.compat in use."""
    rng = np.random.default_rng(0)
    y = np.arange(TRAIN + TEST, dtype=np.uint8) % 10
    x = rng.integers(0, 25 * (y[:, None, None] + 1), (len(y), 28, 28), dtype=np.uint8)    # brighter, the higher
    monkeypatch.setattr(mnist, "load_data", lambda: ((x[:TRAIN], y[:TRAIN]), (x[TRAIN:], y[TRAIN:])))
    monkeypatch.chdir(tmp_path)
    pixels = pd.DataFrame(x.reshape(len(x), -1), columns=[f"pixel{k}" for k in range(784)])
    pixels[:TRAIN].assign(label=y[:TRAIN])[["label", *pixels]].to_csv("train.csv", index=False)
    pixels[TRAIN:].to_csv("test.csv", index=False)
    compat = [name for name in sys.modules if name.startswith("minicnn.compat")]
    for name in compat:
        monkeypatch.delitem(sys.modules, name)
    state = np.random.get_state()  # noqa: NPY002
    yield
    np.random.set_state(state)  # noqa: NPY002
    for name in [name for name in sys.modules if name.startswith("minicnn.compat")]:
        del sys.modules[name]
    if hasattr(optimizers.Optimizer, "lr"):
        del optimizers.Optimizer.lr
    import matplotlib.pyplot as plt
    plt.close("all")


def run(name):
    """Run a script as ``python name.py`` would; return its names and its warnings, each once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        names = runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
    shown = [str(warning.message) for warning in caught if "settled" not in str(warning.message)]
    return names, list(dict.fromkeys(shown))


@pytest.mark.usefixtures("_a_folder_with_digits")
@pytest.mark.parametrize("name", SAID)
def test_a_script_runs(name, capsys):
    names, shown = run(name)
    expected, last = SAID[name]
    assert len(shown) == len(expected), shown
    for words, warning in zip(expected, shown, strict=True):
        assert re.search(words, warning)
    out = capsys.readouterr().out
    assert re.search(f"{last}\\Z", out), out[-300:]
    model = names["model"][-1] if isinstance(names["model"], list) else names["model"]
    assert isinstance(model, Sequential)
    assert model.updates > 0
    assert all(np.isfinite(array).all() for array in model.get_weights())


@pytest.mark.usefixtures("_a_folder_with_digits")
def test_what_the_scripts_leave_behind():
    run("explore_cnn")
    run("ensemble")
    for name in ("submission.csv", "ensemble.csv"):
        submission = pd.read_csv(name)
        assert list(submission) == ["ImageId", "Label"]
        assert submission["ImageId"].tolist() == list(range(1, TEST + 1))
        assert submission["Label"].between(0, 9).all()
    names, _ = run("callbacks_and_files")
    assert len(names["seen"]) == 4
    assert names["log"]["learning_rate"].tolist() == [0.1, 0.1, 0.05, 0.05]
    assert len(list(Path("checkpoints").iterdir())) == 4
    assert Path(names["latest"]).name.startswith("04-")
    names, _ = run("transfer")
    for before, after in zip(names["before"], names["after"], strict=True):
        assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))
    names, _ = run("stop_at_accuracy")
    assert len(names["history"].epoch) < 9


def test_every_script_is_run():
    assert {path.stem for path in SCRIPTS.glob("*.py")} == set(SAID)
    assert len(SAID) >= 12


@pytest.mark.parametrize("name", SAID)
def test_nothing_of_ours_is_in_a_script_but_its_imports(name):
    lines = (SCRIPTS / f"{name}.py").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if "minicnn" in line and not re.match(r"(from|import) minicnn", line)] == []
