"""Mistakes in reading and writing tables of images."""

from __future__ import annotations

from mistakes.record import Mistake

KAGGLE, CSV = "datasets/kaggle.py", "datasets/_csv.py"
FORMS = "test_kaggle.py::test_label_first_with_and_without_a_header"
NAMED = "test_kaggle.py::test_a_bad_cell_is_named"

MISTAKES = [
    Mistake("label last", KAGGLE, "y[start:start + len(rows)] = rows[:, 0]", "y[start:start + len(rows)] = rows[:, -1]",
            "The last pixel is taken for the label.", FORMS),
    Mistake("first row is always a header", KAGGLE, "0 if layout.header else None", "0",
            "Of a file without one the first image is lost.", FORMS),
    Mistake("images transposed", KAGGLE, "    return x, y\n\n\ndef _require_rows",
            "    return x.swapaxes(1, 2), y\n\n\ndef _require_rows", "The pixels are taken column by column.", FORMS),
    Mistake("pieces joined backwards", KAGGLE, "rows = parts.pop()", "rows = parts.pop(0)",
            "The pieces a long file is read in change places.",
            "test_kaggle.py::test_chunks_are_joined_in_order"),
    Mistake("missing cells are 0", KAGGLE,
            'dtype="uint8", chunksize=rows) as reader:\n        return [chunk.to_numpy() for chunk in reader]',
            "chunksize=rows) as reader:\n        return [chunk.fillna(0).to_numpy(np.uint8) for chunk in reader]",
            "A truncated row is an image whose lower half is empty.", NAMED),
    Mistake("one damaged cell makes a header", CSV, "2 * named > len(first)", "named > 0",
            "A first row with a wrong cell is taken for names, and its image is lost.",
            "test_kaggle.py::test_damage_in_the_first_row_makes_it_no_header"),
    Mistake("lines counted without the header", CSV, "_examined(number, reader.line_num, cells, columns)",
            "_examined(number, number + 1, cells, columns)", "The message names the line before the damaged one.",
            NAMED),
    Mistake("submission counts from 0", KAGGLE, "enumerate(digits.tolist(), start=1)",
            "enumerate(digits.tolist(), start=0)", "Every answer belongs to the image before.",
            "test_kaggle.py::test_a_submission_counts_from_one"),
    Mistake("rows compared by their sums", "datasets/duplicates.py", "np.ascontiguousarray(row).tobytes()",
            "str(row.sum()).encode()", "Different images of as much ink count as the same.",
            "test_duplicates.py::test_rows_that_are_there_more_than_once"),
]
