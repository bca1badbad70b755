"""Learn the digits below five, then freeze the features and learn the others with a new head."""

import time

import minicnn as keras
from minicnn.layers import Activation, Conv2D, Dense, Dropout, Flatten, MaxPooling2D
from minicnn.models import Sequential

batch_size = 8
num_classes = 5
epochs = 2
filters = 8
pool_size = 2
kernel_size = 3
input_shape = (28, 28, 1)


def train_model(model, train, test, num_classes):
    """Compile, fit and evaluate."""
    x_train = train[0].reshape((train[0].shape[0], *input_shape)).astype("float32") / 255
    x_test = test[0].reshape((test[0].shape[0], *input_shape)).astype("float32") / 255
    y_train = keras.utils.to_categorical(train[1], num_classes)
    y_test = keras.utils.to_categorical(test[1], num_classes)
    model.compile(loss="categorical_crossentropy", optimizer="rmsprop", metrics=["accuracy"])
    t = time.time()
    model.fit(x_train, y_train, batch_size=batch_size, epochs=epochs, verbose=1, validation_data=(x_test, y_test))
    print("Training time: %s" % (time.time() - t))
    score = model.evaluate(x_test, y_test, verbose=0)
    print("Test score:", score[0])
    print("Test accuracy:", score[1])


(x_train, y_train), (x_test, y_test) = keras.datasets.mnist.load_data()
x_train_lt5, y_train_lt5 = x_train[y_train < 5], y_train[y_train < 5]
x_test_lt5, y_test_lt5 = x_test[y_test < 5], y_test[y_test < 5]
x_train_gte5, y_train_gte5 = x_train[y_train >= 5], y_train[y_train >= 5] - 5
x_test_gte5, y_test_gte5 = x_test[y_test >= 5], y_test[y_test >= 5] - 5

feature_layers = [
    Conv2D(filters, kernel_size, padding="valid", input_shape=input_shape),
    Activation("relu"),
    Conv2D(filters, kernel_size),
    Activation("relu"),
    MaxPooling2D(pool_size=pool_size),
    Dropout(0.25),
    Flatten(),
]
classification_layers = [Dense(16), Activation("relu"), Dropout(0.5), Dense(num_classes), Activation("softmax")]
model = Sequential(feature_layers + classification_layers)
train_model(model, (x_train_lt5, y_train_lt5), (x_test_lt5, y_test_lt5), num_classes)

before = [layer.get_weights() for layer in feature_layers]
for layer in feature_layers:
    layer.trainable = False
model.pop()
model.pop()
model.add(Dense(num_classes, name="new_head"))
model.add(Activation("softmax"))
train_model(model, (x_train_gte5, y_train_gte5), (x_test_gte5, y_test_gte5), num_classes)
after = [layer.get_weights() for layer in feature_layers]
