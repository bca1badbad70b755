"""A callback of one's own, from a course of 2019: stop when the accuracy is reached, under its older name."""

import minicnn.compat as tf


class myCallback(tf.keras.callbacks.Callback):
    """Stop at a low accuracy."""

    def on_epoch_end(self, epoch, logs={}):
        """Look at the logs."""
        if logs.get("acc") > 0.05:
            print("\nReached enough accuracy so cancelling training!")
            self.model.stop_training = True


def train_mnist():
    """Train."""
    callbacks = myCallback()
    mnist = tf.keras.datasets.mnist
    (x_train, y_train), (x_test, y_test) = mnist.load_data()
    x_train, x_test = x_train / 255.0, x_test / 255.0
    model = tf.keras.models.Sequential([
        tf.keras.layers.Flatten(input_shape=(28, 28)),
        tf.keras.layers.Dense(64, activation=tf.nn.relu),
        tf.keras.layers.Dense(10, activation=tf.nn.softmax),
    ])
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x_train, y_train, epochs=9, callbacks=[callbacks])
    return model, history


model, history = train_mnist()
print(history.epoch, history.history["acc"][-1])
