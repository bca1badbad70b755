"""explore.py: what it says of a table is so, of a damaged one cell by cell; its pictures are of the right images."""

from __future__ import annotations

import numpy as np
import pytest

import explore
import folder
from minicnn import visualize
from minicnn.datasets import kaggle


@pytest.fixture
def drawn(monkeypatch):
    """Keep the figures in place of drawing them, by name."""
    figures = {}

    def keep(figure, path):
        figures[path.name] = figure
        path.touch()
    monkeypatch.setattr(folder, "save_figure", keep)
    return figures


@pytest.fixture
def toys(rng):
    """Return 30 images of 4 x 4, 14 of class 2, 9 of class 5 and 7 of class 7; the corners are always 0."""
    x = rng.integers(0, 256, (30, 4, 4), dtype=np.uint8)
    x[:, ::3, ::3] = 0
    return x, np.repeat(np.array([2, 5, 7], np.uint8), [14, 9, 7])[rng.permutation(30)]


def said(capsys, *arguments):
    """Run the script and return what it prints, spaces made one."""
    assert explore.main([str(argument) for argument in arguments]) == 0
    return " ".join(capsys.readouterr().out.split())


def test_a_good_table(tmp_path, toys, drawn, capsys):
    x, y = toys
    kaggle.write_csv(tmp_path / "train.csv", x, y)
    out = said(capsys, tmp_path / "train.csv", "--out", tmp_path / "out")
    for text in ("train.csv: 30 images of 4 x 4 pixels, with labels", "Columns 17: 'label' to 'pixel15'",
                 "Missing nothing", f"mean {x.mean():.2f} ({100 * x.mean() / 255:.1f} % of full ink)",
                 f"standard deviation {x.std():.2f}", f"{100 * (x == 0).mean():.1f} % of them are 0; 4 of 16 places",
                 "Repeated no image is there twice", "24 to train on, 2 for validation, 4 to test on",
                 "0 validation and 0 test images are among", f"2 14 46.7 {100 * x[y == 2].mean() / 255:.1f}",
                 f"7 7 23.3 {100 * x[y == 7].mean() / 255:.1f}"):
        assert text in out, text
    assert "Wrong" not in out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"explore.txt", "samples.png", "means.png"}
    assert " ".join((tmp_path / "out" / "explore.txt").read_text().split()) == out.partition(" Written to ")[0]
    assert drawn["samples.png"].get_suptitle().startswith("30 images of train.csv of 3 classes")
    means = [ax.images[0].get_array() for ax in drawn["means.png"].axes if ax.images]
    np.testing.assert_allclose(means, [x[y == label].mean(axis=0) for label in (2, 5, 7)])


def test_a_damaged_table_is_described_cell_by_cell_and_read_without_its_bad_rows(tmp_path, toys, drawn, capsys):
    x, y = toys
    kaggle.write_csv(tmp_path / "good.csv", x, y)
    lines = (tmp_path / "good.csv").read_text().splitlines()
    cells = [line.split(",") for line in lines]
    cells[4][3] = cells[4][5] = cells[4][6] = ""
    cells[9][0], cells[12][16] = "seven", "256"
    cells[20].append("8")
    cells[30] = cells[30][:11]
    (tmp_path / "train.csv").write_text("\n".join(",".join(row) for row in cells))
    out = said(capsys, tmp_path / "train.csv", "--out", tmp_path / "out")
    for text in ("Missing 9 cells in 2 rows, in 9 columns: 3 ('pixel2'), 5 ('pixel4') to 6 ('pixel5'), 11 ('pixel10') "
                 "to 16 ('pixel15')",
                 "row 3 (line 5 of the file): 3 cells, 3 ('pixel2'), 5 ('pixel4') to 6 ('pixel5')",
                 "row 29 (line 31 of the file): 6 cells, 11 ('pixel10') to 16 ('pixel15')",
                 "Wrong 3 rows with something else",
                 "row 8 (line 10 of the file): 'seven' in column 0 ('label')", "'256' in column 16 ('pixel15')",
                 "row 19 (line 21 of the file): 1 cell more than columns", "The 5 rows are left out",
                 f"mean {np.delete(x, [3, 8, 11, 19, 29], axis=0).mean():.2f} "):
        assert text in out, text
    assert drawn["samples.png"].get_suptitle().startswith("25 images")


def test_images_that_are_there_twice_are_named_by_their_rows(tmp_path, toys, drawn, capsys):
    x, y = toys
    x[[7, 21]], x[3], y[3] = x[0], x[12], (y[12] + 1) % 3
    y[[7, 21]] = y[0]
    kaggle.write_csv(tmp_path / "some_train.csv", x, y)
    lines = (tmp_path / "some_train.csv").read_text().splitlines(keepends=True)
    lines[2] = lines[2].replace(",", ",,", 1)  # row 1 is left out: the numbers stay those of the file
    (tmp_path / "some_train.csv").write_text("".join(lines))
    kaggle.write_csv(tmp_path / "some_test.csv", x[4:9], y[4:9])
    out = said(capsys, tmp_path / "some_train.csv", "--out", tmp_path / "out")
    for text in ("Repeated 5 images in 2 groups of the same pixels", f"rows 0, 7, 21 (label {y[0]})",
                 f"rows 3, 12 (labels differ: {y[3]}, {y[12]})", "27 to train on, 2 for validation, 5 to test on "
                 "(some_train.csv)", "0 validation and 5 test images are among those trained on, too"):
        assert text in out, text


def test_a_table_without_labels(tmp_path, toys, drawn, capsys):
    kaggle.write_csv(tmp_path / "test.csv", toys[0])
    out = said(capsys, tmp_path / "test.csv", "--out", tmp_path / "out")
    assert "30 images of 4 x 4 pixels, without labels" in out
    assert "Split" not in out
    assert "share" not in out
    assert set(drawn) == {"samples.png"}
    assert drawn["samples.png"].get_suptitle() == "30 images of test.csv; all of them"


def test_a_small_table_and_one_without_a_whole_row(tmp_path, toys, drawn, capsys):
    kaggle.write_csv(tmp_path / "a.csv", toys[0][:1], toys[1][:1], header=False)
    out = said(capsys, tmp_path / "a.csv", "--out", tmp_path / "out")
    assert "a.csv: 1 image of 4 x 4" in out
    assert "without a header" in out
    assert "too few to split" in out
    (tmp_path / "b.csv").write_text("1,2,3,4\n".replace("4", ""))
    out = said(capsys, tmp_path / "b.csv", "--out", tmp_path / "none")
    assert "The row is left out" in out
    assert [path.name for path in (tmp_path / "none").iterdir()] == ["explore.txt"]


def test_long_lists_are_cut(tmp_path, toys, drawn, capsys):
    x, y = toys
    kaggle.write_csv(tmp_path / "good.csv", x, y)
    text = (tmp_path / "good.csv").read_text().splitlines()
    text[1:26] = [",".join(["", *line.split(",")[1:]]) for line in text[1:26]]
    (tmp_path / "a.csv").write_text("\n".join(text))
    out = said(capsys, tmp_path / "a.csv", "--out", tmp_path / "out")
    assert "row 19 (line 21 of the file): 1 cell, 0 ('label') and 5 more" in out
    names = [f"p{k}" for k in range(100)]
    assert explore.ranges(range(0, 100, 2), names).endswith("38 ('p38') and 30 others")
    assert explore.ranges([4, 2, 3], names) == "2 ('p2') to 4 ('p4')"
    wrong = kaggle.Fault(1, 2, [], [(k, "x") for k in range(25)], 0)
    assert explore._wrong(wrong, names).endswith("'x' in column 19 ('p19'), 5 more")


@pytest.mark.parametrize(("arguments", "words"), [
    (["nowhere.csv"], "error: nowhere.csv: there is no such file; expected one to read. Correct the path.\n"),
    (["full"], "error: full: found a folder; expected a file to read. Correct the path.\n"),
    (["good.csv/rows.csv"], "good.csv is no zip file"), (["empty.csv"], "empty first line"),
    (["good.csv", "--out", "full"], "--out"), ([], "FILE"), (["good.csv", "--colour"], "--colour")])
def test_a_wrong_command_is_one_message_and_status_2(tmp_path, toys, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    kaggle.write_csv(tmp_path / "good.csv", *toys)
    (tmp_path / "empty.csv").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    assert explore.main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert words in err
    assert not (tmp_path / "runs").exists()


# --- its pictures ------------------------------------------------------------------------------------------------

def images_of(figure):
    return [np.asarray(ax.images[0].get_array()) for ax in figure.axes if ax.images]


def test_the_mean_of_each_class_and_the_two_most_alike(toys):
    x, y = toys
    x[y == 7] = x[y == 2][:7] // 2 + x[y == 2].mean(axis=0).astype(np.uint8) // 2
    figure = visualize.mean_images(x, y, of="toys", names={2: "two", 5: "five", 7: "seven"})
    np.testing.assert_allclose(images_of(figure), [x[y == label].mean(axis=0) for label in (2, 5, 7)])
    assert figure.get_suptitle() == "The mean of each class of 30 toys;\nmost alike on average: two and seven"
    assert [ax.get_title() for ax in figure.axes] == ["two", "five", "seven"]
    assert [ax.get_xlabel() for ax in figure.axes] == ["14 images", "9 images", "7 images"]
    assert figure._repr_png_().startswith(b"\x89PNG")
    assert visualize.mean_images(x[y == 5], y[y == 5]).get_suptitle() == "The mean of each class of 9 images"


def test_the_first_images_in_their_order(toys):
    x, _ = toys
    figure = visualize.first_images(x, limit=7, columns=4, of="toys")
    np.testing.assert_array_equal(images_of(figure), x[:7])
    assert figure.get_suptitle() == "30 toys; the first 7 of them"
    assert [ax.get_ylabel() for ax in figure.axes if ax.get_ylabel()] == ["0", "4"]
    called = visualize.first_images(x, limit=3, columns=2, captions=["a", "b", "c"])
    assert [(ax.get_xlabel(), ax.get_ylabel()) for ax in called.axes[:3]] == [("a", ""), ("b", ""), ("c", "")]
    assert figure._repr_png_().startswith(b"\x89PNG")
