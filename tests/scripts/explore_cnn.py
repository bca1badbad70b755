"""From the CSV, explored first: three convolutions, one-hot labels, early stopping with the best weights."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from minicnn import layers, models
from minicnn.callbacks import EarlyStopping
from minicnn.utils import to_categorical

df_train = pd.read_csv("train.csv")
df_test = pd.read_csv("test.csv")
print(df_train.shape, df_test.shape)
print("missing:", df_train.isnull().sum().sum(), df_test.isnull().sum().sum())
print(df_train["label"].value_counts(normalize=True))

X = df_train.drop("label", axis=1).to_numpy().reshape(-1, 28, 28, 1).astype("float32") / 255
y = to_categorical(df_train["label"])
X_test = df_test.to_numpy().reshape(-1, 28, 28, 1) / 255

fig, axes = plt.subplots(2, 5)
for digit, ax in enumerate(axes.flat):
    ax.imshow(X[df_train["label"] == digit].mean(axis=0)[..., 0], cmap="gray")
    ax.axis("off")
plt.show()

model = models.Sequential()
model.add(layers.Conv2D(8, (3, 3), activation="relu", input_shape=(28, 28, 1)))
model.add(layers.MaxPooling2D((2, 2)))
model.add(layers.Conv2D(16, (3, 3), activation="relu"))
model.add(layers.MaxPooling2D((2, 2)))
model.add(layers.Conv2D(16, (3, 3), activation="relu"))
model.summary()
model.add(layers.Flatten())
model.add(layers.Dense(16, activation="relu"))
model.add(layers.Dense(y.shape[1], activation="softmax"))
model.summary()

model.compile(optimizer="adam", loss="categorical_crossentropy", metrics=["accuracy"])
es = EarlyStopping(monitor="val_loss", mode="min", verbose=1, patience=2, restore_best_weights=True)
history = model.fit(X, y, epochs=4, batch_size=16, validation_split=0.2, callbacks=[es])

pd.DataFrame(history.history)[["accuracy", "val_accuracy"]].plot(figsize=(8, 5))
plt.grid(True)
plt.gca().set_ylim(0, 1)
plt.show()

predictions = model.predict(X_test).argmax(axis=1)
pd.DataFrame({"ImageId": np.arange(1, len(predictions) + 1), "Label": predictions}).to_csv(
    "submission.csv", index=False)
