"""Everything that happens beside training: checkpoints, a log, a schedule; then the best model is taken up again."""

import glob
import os

import pandas as pd

from minicnn.callbacks import (
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    TerminateOnNaN,
)
from minicnn.datasets import mnist
from minicnn.layers import Activation, BatchNormalization, Conv2D, Dense, Flatten
from minicnn.models import Sequential, load_model
from minicnn.optimizers import SGD

(x_train, y_train), (x_val, y_val) = mnist.load_data()
x_train, x_val = x_train[..., None] / 255.0, x_val[..., None] / 255.0


def create_model():
    """Return a compiled network."""
    model = Sequential(name="digits")
    model.add(Conv2D(4, 5, strides=2, padding="same", use_bias=False, input_shape=x_train.shape[1:]))
    model.add(BatchNormalization())
    model.add(Activation("relu"))
    model.add(Flatten())
    model.add(Dense(10, activation="softmax", name="predictions"))
    model.compile(SGD(learning_rate=0.1, momentum=0.9, nesterov=True), "sparse_categorical_crossentropy", ["accuracy"])
    return model


def step_decay(epoch):
    """Halve the rate every other epoch."""
    return 0.1 * 0.5 ** (epoch // 2)


model = create_model()
seen = []
callbacks = [
    ModelCheckpoint("checkpoints/{epoch:02d}-{val_loss:.2f}.weights.h5", save_weights_only=True, verbose=1),
    ModelCheckpoint(filepath="best.keras", monitor="val_accuracy", mode="max", save_best_only=True),
    EarlyStopping(patience=10, min_delta=1e-3),
    LearningRateScheduler(step_decay, verbose=1),
    CSVLogger("training.log", separator=";"),
    TerminateOnNaN(),
    LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(logs["loss"])),
]
history = model.fit(x_train, y_train, 16, 4, 0, callbacks, validation_data=(x_val, y_val))

log = pd.read_csv("training.log", sep=";")
print(log[["epoch", "learning_rate", "val_accuracy"]])
latest = max(glob.glob("checkpoints/*.h5"), key=os.path.basename)
restored = create_model()
restored.load_weights(latest)
print(restored.evaluate(x_val, y_val, verbose=2))
best = load_model("best.keras")
print("best of %d: %.3f" % (len(seen), best.evaluate(x_val, y_val, return_dict=True)["accuracy"]))
best.fit(x_train, y_train, initial_epoch=4, epochs=5, verbose=0)
