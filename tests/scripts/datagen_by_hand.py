"""The documentation's example of ImageDataGenerator in 2017: fit_generator first, then batches by hand."""

import minicnn.compat as keras
from minicnn.compat.datasets import mnist
from minicnn.compat.layers import Activation, Conv2D, Dense, Dropout, Flatten, MaxPooling2D
from minicnn.compat.models import Sequential
from minicnn.compat.preprocessing.image import ImageDataGenerator

num_classes = 10
epochs = 2
(x_train, y_train), (x_test, y_test) = mnist.load_data()
x_train = x_train.reshape(-1, 28, 28, 1).astype("float32") / 255
x_test = x_test.reshape(-1, 28, 28, 1).astype("float32") / 255
y_train = keras.utils.to_categorical(y_train, num_classes)
y_test = keras.utils.to_categorical(y_test, num_classes)

model = Sequential()
model.add(Conv2D(8, (3, 3), padding="same", input_shape=x_train.shape[1:]))
model.add(Activation("relu"))
model.add(MaxPooling2D(pool_size=(2, 2)))
model.add(Dropout(0.25))
model.add(Flatten())
model.add(Dense(num_classes))
model.add(Activation("softmax"))
opt = keras.optimizers.RMSprop(learning_rate=0.0001)
model.compile(loss="categorical_crossentropy", optimizer=opt, metrics=["accuracy"])

datagen = ImageDataGenerator(
    featurewise_center=False,
    samplewise_center=False,
    featurewise_std_normalization=False,
    samplewise_std_normalization=False,
    zca_whitening=False,
    rotation_range=20,
    width_shift_range=0.2,
    height_shift_range=0.2,
    horizontal_flip=False)
datagen.fit(x_train)

# fits the model on batches with real-time data augmentation
model.fit_generator(datagen.flow(x_train, y_train, batch_size=16), steps_per_epoch=len(x_train) / 16, epochs=epochs,
                    validation_data=(x_test, y_test), workers=4)

# here is a more manual example
for e in range(epochs):
    print("Epoch", e)
    batches = 0
    for x_batch, y_batch in datagen.flow(x_train, y_train, batch_size=16):
        model.fit(x_batch, y_batch, verbose=0)
        batches += 1
        if batches >= len(x_train) / 16:
            # we need to break the loop by hand because the generator loops indefinitely
            break

scores = model.evaluate(x_test, y_test, verbose=1)
print("Test loss:", scores[0])
print("Test accuracy:", scores[1])
