"""Several networks whose probabilities are added, each with its own schedule; strides in place of pooling."""

import numpy as np
import pandas as pd

from minicnn.callbacks import LearningRateScheduler
from minicnn.initializers import HeNormal
from minicnn.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten, GlobalAveragePooling2D
from minicnn.models import Sequential
from minicnn.utils import to_categorical

train = pd.read_csv("train.csv")
test = pd.read_csv("test.csv")
Y_train = train["label"]
X_train = train.drop(labels=["label"], axis=1)
X_train = X_train / 255.0
X_test = test / 255.0
X_train = X_train.values.reshape(-1, 28, 28, 1)
X_test = X_test.values.reshape(-1, 28, 28, 1)
Y_train = to_categorical(Y_train, num_classes=10)

nets = 2
model = [0] * nets
for j in range(nets):
    model[j] = Sequential(seed=j)
    model[j].add(Conv2D(8, kernel_size=3, activation="relu", input_shape=(28, 28, 1), kernel_initializer=HeNormal()))
    model[j].add(BatchNormalization())
    model[j].add(Conv2D(8, kernel_size=5, strides=2, padding="same", activation="relu"))
    model[j].add(BatchNormalization())
    model[j].add(Dropout(0.4))
    model[j].add(Conv2D(16, kernel_size=4, activation="relu"))
    model[j].add(GlobalAveragePooling2D() if j else Flatten())
    model[j].add(Dense(10, activation="softmax"))
    model[j].compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])

annealer = LearningRateScheduler(lambda x: 1e-3 * 0.95**x)
history = [0] * nets
epochs = 2
for j in range(nets):
    X_train2, X_val2, Y_train2, Y_val2 = X_train[j::2], X_train[1 - j::2], Y_train[j::2], Y_train[1 - j::2]
    history[j] = model[j].fit(X_train2, Y_train2, batch_size=16, epochs=epochs, validation_data=(X_val2, Y_val2),
                              callbacks=[annealer], verbose=0)
    print("CNN {0:d}: Epochs={1:d}, Train accuracy={2:.5f}, Validation accuracy={3:.5f}".format(
        j + 1, epochs, max(history[j].history["accuracy"]), max(history[j].history["val_accuracy"])))

results = np.zeros((X_test.shape[0], 10))
for j in range(nets):
    results = results + model[j].predict(X_test)
results = np.argmax(results, axis=1)
results = pd.Series(results, name="Label")
submission = pd.concat([pd.Series(range(1, len(results) + 1), name="ImageId"), results], axis=1)
submission.to_csv("ensemble.csv", index=False)
