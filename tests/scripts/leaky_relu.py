"""Convolutions with LeakyReLU as layers of their own, under its older argument; a report for each class."""

import matplotlib.pyplot as plt
import numpy as np

import minicnn as keras
from minicnn.datasets import mnist
from minicnn.layers import Conv2D, Dense, Flatten, LeakyReLU, MaxPooling2D
from minicnn.models import Sequential
from minicnn.utils import to_categorical

(train_X, train_Y), (test_X, test_Y) = mnist.load_data()
classes = np.unique(train_Y)
nClasses = len(classes)
print("Output classes : ", classes)
train_X = train_X.reshape(-1, 28, 28, 1).astype("float32") / 255.0
test_X = test_X.reshape(-1, 28, 28, 1).astype("float32") / 255.0
train_Y_one_hot = to_categorical(train_Y)
test_Y_one_hot = to_categorical(test_Y, nClasses)
train_X, valid_X = train_X[:40], train_X[40:]
train_label, valid_label = train_Y_one_hot[:40], train_Y_one_hot[40:]

batch_size = 16
epochs = 2
fashion_model = Sequential()
fashion_model.add(Conv2D(8, kernel_size=(3, 3), activation="linear", padding="same", input_shape=(28, 28, 1)))
fashion_model.add(LeakyReLU(alpha=0.1))
fashion_model.add(MaxPooling2D((2, 2), padding="same"))
fashion_model.add(Conv2D(8, (3, 3), activation="linear", padding="same"))
fashion_model.add(LeakyReLU(alpha=0.1))
fashion_model.add(MaxPooling2D(pool_size=(2, 2), padding="same"))
fashion_model.add(Flatten())
fashion_model.add(Dense(16, activation="linear"))
fashion_model.add(LeakyReLU(alpha=0.1))
fashion_model.add(Dense(nClasses, activation="softmax"))
fashion_model.compile(loss=keras.losses.categorical_crossentropy, optimizer=keras.optimizers.Adam(),
                      metrics=["accuracy"])
fashion_model.summary()
fashion_train = fashion_model.fit(train_X, train_label, batch_size=batch_size, epochs=epochs, verbose=1,
                                  validation_data=(valid_X, valid_label))
test_eval = fashion_model.evaluate(test_X, test_Y_one_hot, verbose=0)
print("Test loss:", test_eval[0])

accuracy = fashion_train.history["accuracy"]
val_accuracy = fashion_train.history["val_accuracy"]
plt.plot(range(len(accuracy)), accuracy, "bo", label="Training accuracy")
plt.plot(range(len(accuracy)), val_accuracy, "b", label="Validation accuracy")
plt.title("Training and validation accuracy")

predicted_classes = fashion_model.predict(test_X)
predicted_classes = np.argmax(np.round(predicted_classes), axis=1)
correct = np.where(predicted_classes == test_Y)[0]
print("Found %d correct labels" % len(correct))
incorrect = np.where(predicted_classes != test_Y)[0]
for num, index in enumerate(incorrect[:4]):
    plt.subplot(2, 2, num + 1)
    plt.imshow(test_X[index].reshape(28, 28), cmap="gray", interpolation="none")
model = fashion_model
