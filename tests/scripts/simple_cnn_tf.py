"""TensorFlow's habits: tf.keras and tf.nn, sparse labels, one picture predicted."""

import matplotlib.pyplot as plt

import minicnn.compat as tf
from minicnn.compat.keras.layers import Conv2D, Dense, Dropout, Flatten, MaxPooling2D
from minicnn.compat.keras.models import Sequential

(x_train, y_train), (x_test, y_test) = tf.keras.datasets.mnist.load_data()
image_index = 7
print(y_train[image_index])
plt.imshow(x_train[image_index], cmap="Greys")

x_train = x_train.reshape(x_train.shape[0], 28, 28, 1)
x_test = x_test.reshape(x_test.shape[0], 28, 28, 1)
input_shape = (28, 28, 1)
x_train = x_train.astype("float32")
x_test = x_test.astype("float32")
x_train /= 255
x_test /= 255
print("Number of images in x_train", x_train.shape[0])

model = Sequential()
model.add(Conv2D(28, kernel_size=(3, 3), input_shape=input_shape))
model.add(MaxPooling2D(pool_size=(2, 2)))
model.add(Flatten())
model.add(Dense(128, activation=tf.nn.relu))
model.add(Dropout(0.2))
model.add(Dense(10, activation=tf.nn.softmax))

model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x=x_train, y=y_train, epochs=2)
print(model.evaluate(x_test, y_test))

image_index = 4
plt.imshow(x_test[image_index].reshape(28, 28), cmap="Greys")
pred = model.predict(x_test[image_index].reshape(1, 28, 28, 1))
print(pred.argmax())
