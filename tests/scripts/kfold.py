"""Cross-validation with a network for each fold; then a last one, saved and asked about a single image."""

from matplotlib import pyplot as plt
from numpy import argmax, array_split, concatenate, mean, std

from minicnn.datasets import mnist
from minicnn.layers import Conv2D, Dense, Flatten, MaxPooling2D
from minicnn.models import Sequential, load_model
from minicnn.optimizers import SGD
from minicnn.utils import to_categorical


def load_dataset():
    """Return pixels and one-hot labels."""
    (trainX, trainY), (testX, testY) = mnist.load_data()
    trainX = trainX.reshape((trainX.shape[0], 28, 28, 1))
    testX = testX.reshape((testX.shape[0], 28, 28, 1))
    return trainX, to_categorical(trainY), testX, to_categorical(testY)


def prep_pixels(train, test):
    """Scale to [0, 1]."""
    return train.astype("float32") / 255.0, test.astype("float32") / 255.0


def define_model():
    """Return a compiled network."""
    model = Sequential()
    model.add(Conv2D(8, (3, 3), activation="relu", kernel_initializer="he_uniform", input_shape=(28, 28, 1)))
    model.add(MaxPooling2D((2, 2)))
    model.add(Flatten())
    model.add(Dense(20, activation="relu", kernel_initializer="he_uniform"))
    model.add(Dense(10, activation="softmax"))
    opt = SGD(learning_rate=0.01, momentum=0.9)
    model.compile(optimizer=opt, loss="categorical_crossentropy", metrics=["accuracy"])
    return model


def evaluate_model(dataX, dataY, n_folds=3):
    """Return an accuracy and a history for each fold."""
    scores, histories = [], []
    parts = list(zip(array_split(dataX, n_folds), array_split(dataY, n_folds)))
    for fold in range(n_folds):
        model = define_model()
        testX, testY = parts[fold]
        trainX = concatenate([x for k, (x, _) in enumerate(parts) if k != fold])
        trainY = concatenate([y for k, (_, y) in enumerate(parts) if k != fold])
        history = model.fit(trainX, trainY, epochs=2, batch_size=32, validation_data=(testX, testY), verbose=0)
        _, acc = model.evaluate(testX, testY, verbose=0)
        print("> %.3f" % (acc * 100.0))
        scores.append(acc)
        histories.append(history)
    return scores, histories


trainX, trainY, testX, testY = load_dataset()
trainX, testX = prep_pixels(trainX, testX)
scores, histories = evaluate_model(trainX, trainY)
for history in histories:
    plt.subplot(2, 1, 1)
    plt.plot(history.history["loss"], color="blue", label="train")
    plt.plot(history.history["val_loss"], color="orange", label="test")
print("Accuracy: mean=%.3f std=%.3f, n=%d" % (mean(scores) * 100, std(scores) * 100, len(scores)))

model = define_model()
model.fit(trainX, trainY, epochs=2, batch_size=32, verbose=0)
model.save("final_model.keras")
model = load_model("final_model.keras")
predict_value = model.predict(testX[:1])
digit = argmax(predict_value)
print(digit)
