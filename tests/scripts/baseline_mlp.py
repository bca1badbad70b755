"""The first network of many a tutorial of 2016: one hidden layer, as wide as the image."""

import numpy

from minicnn.compat.datasets import mnist
from minicnn.compat.layers import Dense, Dropout
from minicnn.compat.models import Sequential
from minicnn.compat.utils import np_utils

seed = 7
numpy.random.seed(seed)
(X_train, y_train), (X_test, y_test) = mnist.load_data()
num_pixels = X_train.shape[1] * X_train.shape[2]
X_train = X_train.reshape((X_train.shape[0], num_pixels)).astype("float32")
X_test = X_test.reshape((X_test.shape[0], num_pixels)).astype("float32")
X_train = X_train / 255
X_test = X_test / 255
y_train = np_utils.to_categorical(y_train)
y_test = np_utils.to_categorical(y_test)
num_classes = y_test.shape[1]


def baseline_model():
    """Return a compiled network."""
    model = Sequential()
    model.add(Dense(num_pixels, input_dim=num_pixels, kernel_initializer="normal", activation="relu"))
    model.add(Dropout(0.2))
    model.add(Dense(num_classes, kernel_initializer="normal", activation="softmax"))
    model.compile(loss="categorical_crossentropy", optimizer="adam", metrics=["accuracy"])
    return model


model = baseline_model()
model.fit(X_train, y_train, validation_data=(X_test, y_test), epochs=3, batch_size=20, verbose=2)
scores = model.evaluate(X_test, y_test, verbose=0)
print("%s: %.2f%%" % (model.metrics_names[1], scores[1] * 100))
print("Baseline Error: %.2f%%" % (100 - scores[1] * 100))
classes = model.predict_classes(X_test[:5])
print(classes)
