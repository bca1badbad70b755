"""Trainings that are interrupted, and what of them can be compared: shared by the tests of BackupAndRestore."""

from __future__ import annotations

import numpy as np

from minicnn import saving
from minicnn.callbacks import BackupAndRestore, Callback
from networks import compiled, draw_images, small_dense


class Break(Callback):
    """Interrupt the training, as Ctrl-C would, when a number of steps is made and an event comes."""

    def __init__(self, step, event="on_train_batch_end"):
        super().__init__()
        self.step = step
        setattr(self, event, self.press)

    def press(self, *_):
        if self.model.optimizer.iterations == self.step:
            raise KeyboardInterrupt


def digest(model):
    slots = {f"{name}/{slot}": array for name, own in sorted(model.optimizer.slots.items())
             for slot, array in sorted(own.items())}
    return model.weights_sha256(), saving.sha256_of(slots), model.optimizer.iterations, model.optimizer.learning_rate, \
        model.updates, [layer.trainable for layer in model.layers]


def keep(folder, epochs=2, network=None, seed=0, more=(), rows=11, note=None, backup=None,
         optimizer="sgd", **fit):
    """Train a small network and keep the checkpoints."""
    x, y = draw_images(np.random.default_rng(seed), rows, (4,))
    model = compiled(network or small_dense(), optimizer)
    backup = backup or BackupAndRestore(folder, delete_checkpoint=False, note=note)
    model.fit(**{"x": x, "y": y, "batch_size": 4, "epochs": epochs, "verbose": 0} | fit, callbacks=[backup, *more])
    return model, backup
