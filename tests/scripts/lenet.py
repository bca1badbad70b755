"""LeNet-5: average pooling and tanh; curves, filters, a saved model."""

import matplotlib.pyplot as plt
import numpy as np

from minicnn import Sequential
from minicnn.datasets import mnist
from minicnn.layers import AveragePooling2D, Conv2D, Dense, Flatten
from minicnn.losses import CategoricalCrossentropy
from minicnn.metrics import CategoricalAccuracy
from minicnn.models import load_model
from minicnn.utils import set_random_seed, to_categorical

set_random_seed(42)
(x_train, y_train), (x_test, y_test) = mnist.load_data()
order = np.random.permutation(len(x_train))
x_train, y_train = x_train[order], y_train[order]
x_train = np.pad(x_train[..., np.newaxis] / 255.0, ((0, 0), (2, 2), (2, 2), (0, 0)))
x_test = np.pad(x_test[..., np.newaxis] / 255.0, ((0, 0), (2, 2), (2, 2), (0, 0)))
y_train, y_test = to_categorical(y_train, 10), to_categorical(y_test, 10)

model = Sequential([
    Conv2D(6, kernel_size=5, strides=1, activation="tanh", input_shape=x_train[0].shape, padding="valid"),
    AveragePooling2D(pool_size=2, strides=2),
    Conv2D(16, kernel_size=5, strides=1, activation="tanh"),
    AveragePooling2D(),
    Flatten(),
    Dense(120, activation="tanh"),
    Dense(84, activation="tanh"),
    Dense(10, activation="softmax"),
], name="lenet")
model.compile(optimizer="SGD", loss=CategoricalCrossentropy(label_smoothing=0.1), metrics=[CategoricalAccuracy("acc")])
history = model.fit(x_train, y_train, epochs=2, batch_size=16, validation_data=(x_test, y_test), verbose=0)

plt.plot(history.epoch, history.history["acc"], label="train")
plt.plot(history.epoch, history.history["val_acc"], label="test")
plt.legend()
plt.show()

filters, biases = model.layers[0].get_weights()
f_min, f_max = filters.min(), filters.max()
filters = (filters - f_min) / (f_max - f_min)
for i in range(6):
    ax = plt.subplot(2, 3, i + 1)
    ax.set_xticks([])
    plt.imshow(filters[:, :, 0, i], cmap="gray")

model.save("lenet.h5")
model = load_model("lenet.h5")
loss, accuracy = model.evaluate(x_test, y_test)
print("Test loss: %.4f, accuracy: %.4f" % (loss, accuracy))
