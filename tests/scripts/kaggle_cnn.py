"""Kaggle's digit recognizer as its best known notebook of 2017 does it: CSV files, augmentation, a submission."""

import itertools

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from minicnn.compat.callbacks import ReduceLROnPlateau
from minicnn.compat.layers import Conv2D, Dense, Dropout, Flatten, MaxPool2D
from minicnn.compat.models import Sequential
from minicnn.compat.optimizers import RMSprop
from minicnn.compat.preprocessing.image import ImageDataGenerator
from minicnn.compat.utils.np_utils import to_categorical

np.random.seed(2)

train = pd.read_csv("train.csv")
test = pd.read_csv("test.csv")
Y_train = train["label"]
X_train = train.drop(labels=["label"], axis=1)
del train
print(Y_train.value_counts())
print(X_train.isnull().any().describe())

X_train = X_train / 255.0
test = test / 255.0
X_train = X_train.values.reshape(-1, 28, 28, 1)
test = test.values.reshape(-1, 28, 28, 1)
Y_train = to_categorical(Y_train, num_classes=10)
X_train, X_val, Y_train, Y_val = X_train[:-12], X_train[-12:], Y_train[:-12], Y_train[-12:]

model = Sequential()
model.add(Conv2D(filters=8, kernel_size=(5, 5), padding="Same", activation="relu", input_shape=(28, 28, 1)))
model.add(Conv2D(filters=8, kernel_size=(5, 5), padding="Same", activation="relu"))
model.add(MaxPool2D(pool_size=(2, 2)))
model.add(Dropout(0.25))
model.add(Conv2D(filters=8, kernel_size=(3, 3), padding="Same", activation="relu"))
model.add(MaxPool2D(pool_size=(2, 2), strides=(2, 2)))
model.add(Dropout(0.25))
model.add(Flatten())
model.add(Dense(32, activation="relu"))
model.add(Dropout(0.5))
model.add(Dense(10, activation="softmax"))

optimizer = RMSprop(lr=0.001, rho=0.9, epsilon=1e-08, decay=0.0)
model.compile(optimizer=optimizer, loss="categorical_crossentropy", metrics=["accuracy"])
learning_rate_reduction = ReduceLROnPlateau(monitor="val_acc", patience=3, verbose=1, factor=0.5, min_lr=0.00001)
epochs = 2
batch_size = 12

datagen = ImageDataGenerator(
    featurewise_center=False, samplewise_center=False, featurewise_std_normalization=False,
    samplewise_std_normalization=False, zca_whitening=False, rotation_range=10, zoom_range=0.1, width_shift_range=0.1,
    height_shift_range=0.1, horizontal_flip=False, vertical_flip=False)
datagen.fit(X_train)
history = model.fit_generator(
    datagen.flow(X_train, Y_train, batch_size=batch_size), epochs=epochs, validation_data=(X_val, Y_val), verbose=2,
    steps_per_epoch=X_train.shape[0] // batch_size, callbacks=[learning_rate_reduction])

fig, ax = plt.subplots(2, 1)
ax[0].plot(history.history["loss"], color="b", label="Training loss")
ax[0].plot(history.history["val_loss"], color="r", label="validation loss")
ax[1].plot(history.history["acc"], color="b", label="Training accuracy")
ax[1].plot(history.history["val_acc"], color="r", label="Validation accuracy")
ax[1].legend(loc="best", shadow=True)

Y_pred = model.predict(X_val)
Y_pred_classes = np.argmax(Y_pred, axis=1)
Y_true = np.argmax(Y_val, axis=1)
confusion_mtx = np.zeros((10, 10), int)
for true, predicted in zip(Y_true, Y_pred_classes):
    confusion_mtx[true, predicted] += 1
plt.figure()
plt.imshow(confusion_mtx, interpolation="nearest")
for i, j in itertools.product(range(10), range(10)):
    plt.text(j, i, confusion_mtx[i, j], horizontalalignment="center")
errors = Y_pred_classes - Y_true != 0
print("errors:", errors.sum())

results = model.predict(test)
results = np.argmax(results, axis=1)
results = pd.Series(results, name="Label")
submission = pd.concat([pd.Series(range(1, len(results) + 1), name="ImageId"), results], axis=1)
submission.to_csv("cnn_mnist_datagen.csv", index=False)
