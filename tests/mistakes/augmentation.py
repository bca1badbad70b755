"""Mistakes in moving training images: what is drawn, what is made of it, and which image gets which."""

from __future__ import annotations

from mistakes.record import Mistake

IMAGE, TRANSFORMS = "preprocessing/image.py", "preprocessing/transforms.py"
SCIPYS = "test_augmentation.py::test_each_image_is_scipys_for_the_transform_drawn"
WHOLE = "test_augmentation.py::test_whole_numbers_and_sequences_are_drawn_from"
PASSES = "test_augmentation_flow.py::test_each_epoch_passes_through_all_images_in_an_order_of_its_own"

MISTAKES = [
    Mistake("shift: width moves up and down", IMAGE, "self._rows.drawn(", "self._columns.drawn(",
            "The range along the columns is applied along the rows.", WHOLE),
    Mistake("shift: a whole number is reached", TRANSFORMS, "np.arange(max(largest, 1))", "np.arange(largest + 1)",
            "A range of 3 shifts by 3 pixels too; Keras' range ends before.", WHOLE),
    Mistake("shift: to one side only", TRANSFORMS, "(2 * chance - 1) * self.reach", "chance * self.reach",
            "No image is ever moved to the left.",
            "test_augmentation.py::test_a_float_of_one_or_more_is_in_pixels"),
    Mistake("shift: before the rotation", TRANSFORMS, "along * tx + across * ty + middle", "(tx, ty)[k] + middle",
            "A turned image is shifted along its own axes.", SCIPYS),
    Mistake("rotation: degrees as radians", TRANSFORMS, "np.deg2rad(theta)", "theta",
            "Ten degrees turn a digit more than once around.", SCIPYS, count=2),
    Mistake("rotation: about the corner", TRANSFORMS,
            "(row, column)[k] - out[:, k, 0] * row - out[:, k, 1] * column", "0.0",
            "Digits swing out of the picture.", SCIPYS),
    Mistake("rotation: middle half a pixel off", TRANSFORMS, "(size[0] - 1) / 2, (size[1] - 1) / 2",
            "size[0] / 2, size[1] / 2", "Turning also shifts a little.", SCIPYS),
    Mistake("zoom: one factor for both axes", IMAGE, "(high - low) * chance[:, 5:]",
            "(high - low) * chance[:, [5, 5]]", "No image is ever stretched.",
            "test_augmentation.py::test_ranges_are_filled_evenly_and_independently"),
    Mistake("flow: the same in every epoch", IMAGE, '(self.seed, "flow", self.epoch)', '(self.seed, "flow", 0)',
            "Training sees each image in one position only.", SCIPYS),
    Mistake("flow: transforms by the place in the batch", IMAGE, "self.transforms(rows))",
            "self.transforms(slice(len(rows))))", "An image's transform depends on the order and the batch size.",
            "test_augmentation.py::test_an_image_gets_the_same_transform_in_whatever_batch"),
    Mistake("flow: labels stay in order", IMAGE, "rows_of(self._data, rows)._replace(",
            "rows_of(self._data, np.sort(rows))._replace(", "Shuffled images get the labels of others.", PASSES),
    Mistake("flow: last batch left out", IMAGE, "return -(-self.n // self.batch_size)",
            "return self.n // self.batch_size", "A few images are missing in every epoch.", PASSES),
    Mistake("flow: the last images for validation", IMAGE, 'return first if subset == "validation" else last',
            'return last if subset == "validation" else first', "Keras takes the first ones.",
            "test_augmentation_flow.py::test_the_first_images_are_for_validation_and_transformed_as_well"),
]
