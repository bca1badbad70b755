"""Kaggle's CSV files: every form of them is read alike, and damage is named by row and column."""

from __future__ import annotations

import gzip
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from minicnn.datasets import _places, _text, kaggle
from minicnn.errors import ArgumentError, DataError, FileFormatError, MinicnnError


def table(x, y=None, names=None, end="\n"):
    """Return the text of a file, header first if there are names."""
    rows = x.reshape(len(x), -1).tolist()
    rows = rows if y is None else [[label, *row] for label, row in zip(y.tolist(), rows)]
    lines = [",".join(map(str, row)) for row in ([names] if names else []) + rows]
    return end.join(lines) + end


def names(pixels, labelled=True):
    return [*(["label"] if labelled else []), *(f"pixel{k}" for k in range(pixels))]


@pytest.fixture
def small(rng):
    """Return eleven images of 3x3 and their labels."""
    return rng.integers(0, 256, (11, 3, 3), dtype=np.uint8), rng.integers(0, 10, 11, dtype=np.uint8)


def write(path, text, encoding="utf-8"):
    path.write_bytes(text.encode(encoding))
    return path


# --- forms of a file ---------------------------------------------------------------------------------------------

@pytest.mark.parametrize("header", [names(9), [f"c{k}" for k in range(10)], None], ids=["kaggle", "other", "none"])
@pytest.mark.parametrize("form", ["plain", "crlf", "bom", "blank lines", "spaces", "quoted", "decimals", "no end"])
def test_label_first_with_and_without_a_header(tmp_path, small, header, form):
    x, y = small
    text = table(x, y, header, "\r\n" if form == "crlf" else "\n")
    text = {"blank lines": text.replace("\n", "\n\n"), "spaces": text.replace(",", ", "), "no end": text.rstrip(),
            "quoted": '"' + text[:-1].replace(",", '","').replace("\n", '"\n"') + '"\n',
            "decimals": text if header else text.replace(",", ".0,")}.get(form, text)
    read = kaggle.read_csv(write(tmp_path / "a.csv", text, "utf-8-sig" if form == "bom" else "utf-8"))
    for array, wanted in zip(read, small, strict=True):
        assert array.dtype == np.uint8
        np.testing.assert_array_equal(array, wanted)


@pytest.mark.parametrize("header", [names(9, labelled=False), None], ids=["header", "none"])
def test_without_labels(tmp_path, small, header):
    x, y = kaggle.read_csv(write(tmp_path / "test.csv", table(small[0], names=header)))
    np.testing.assert_array_equal(x, small[0])
    assert y is None


@pytest.mark.parametrize("name", ["train.csv", "train.csv.gz", "train.dat"])
def test_what_packs_a_file_is_told_by_its_content(tmp_path, small, name):
    text = table(*small, names(9)).encode()
    (tmp_path / name).write_bytes(gzip.compress(text))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("data/train.csv", text)
        archive.writestr("__MACOSX/data/._train.csv", b"junk")
        archive.writestr("readme.txt", b"about")
    for path in (tmp_path / name, tmp_path / "a.zip", tmp_path / "a.zip" / "train.csv"):
        np.testing.assert_array_equal(kaggle.read_csv(path)[0], small[0])


def test_of_several_files_in_a_zip_file_one_must_be_named(tmp_path, small):
    x, y = small
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("train.csv", table(x, y, names(9)))
        archive.writestr("test.csv", table(x[:4], names=names(9, labelled=False)))
    assert kaggle.read_csv(tmp_path / "all.zip" / "test.csv")[0].shape == (4, 3, 3)
    for path in (tmp_path / "all.zip", tmp_path / "all.zip" / "valid.csv"):
        with pytest.raises(ArgumentError, match=r"holds test\.csv, train\.csv; expected one CSV file.*Name one"):
            kaggle.read_csv(path)
    with pytest.raises(FileFormatError, match="no zip file"):
        kaggle.read_csv(write(tmp_path / "a.csv", table(x, y)) / "train.csv")


@pytest.mark.parametrize("rows", [1, 4, 11, 99])
def test_chunks_are_joined_in_order(tmp_path, monkeypatch, small, rows):
    monkeypatch.setattr(kaggle, "CELLS", 10 * rows)
    x, y = kaggle.read_csv(write(tmp_path / "a.csv", table(*small)))
    np.testing.assert_array_equal(x, small[0])
    np.testing.assert_array_equal(y, small[1])


def test_counted_columns_are_a_header_where_they_cannot_be_pixels(tmp_path, rng):
    """As pandas writes them by itself. A gradient of 4 x 4 is an image."""
    large = rng.integers(0, 256, (2, 17, 17), dtype=np.uint8)
    assert kaggle.read_csv(write(tmp_path / "a.csv", table(large, names=range(289))))[0].shape == (2, 17, 17)
    gradient = np.arange(16).reshape(1, 4, 4)
    np.testing.assert_array_equal(kaggle.read_csv(write(tmp_path / "b.csv", table(gradient)))[0], gradient)


@pytest.mark.parametrize("first", ["", "x", "7.5"])
def test_damage_in_the_first_row_makes_it_no_header(tmp_path, small, first):
    lines = table(*small).splitlines()
    cells = lines[0].split(",")
    lines[0] = ",".join([*cells[:4], first, *cells[5:]])
    with pytest.raises(MinicnnError) as refused:
        kaggle.read_csv(write(tmp_path / "a.csv", "\n".join(lines)))
    assert "row 0 (line 1 of the file), column 4 ('4')" in str(refused.value)
    named = write(tmp_path / "b.csv", table(*small, ["Label", *range(9)]))  # as pandas names columns by itself
    np.testing.assert_array_equal(kaggle.read_csv(named)[0], small[0])


def test_memory_stays_below_three_times_the_result(tmp_path, monkeypatch, rng):
    x, y = rng.integers(0, 10, (1500, 28, 28), dtype=np.uint8), rng.integers(0, 10, 1500, dtype=np.uint8)
    path = write(tmp_path / "a.csv", table(x, y, names(784)))
    monkeypatch.setattr(kaggle, "CELLS", kaggle.CELLS * len(x) // 42000)
    kaggle.read_csv(path)  # what is imported and kept once does not count
    tracemalloc.start()
    try:
        kaggle.read_csv(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 3 * (x.nbytes + y.nbytes)


# --- damage ------------------------------------------------------------------------------------------------------

def damaged(small, row, column, text):
    """Return the lines of a file with a header, one cell of which is replaced; None ends the row before it."""
    lines = table(*small, names(9)).splitlines()
    cells = lines[row + 1].split(",")
    cells[column:] = [] if text is None else [text, *cells[column + 1:]]
    lines[row + 1] = ",".join(cells)
    return lines


@pytest.mark.parametrize("row", [0, 6, 10])
@pytest.mark.parametrize(("column", "text", "words"), [
    (4, "", "found nothing; expected a whole number from 0 to 255"), (4, "NaN", "found nothing"), (9, "", "nothing"),
    (0, "", "found nothing"), (7, None, "found nothing, the first of 3 such cells"), (4, "256", "found '256'"),
    (4, "-1", "found '-1'"), (0, "2.5", r"found '2\.5'"), (4, "x" * 50, f"found '{'x' * 20}'"), (4, "1e99", "'1e99'"),
    (4, "\xff", "found '\ufffd'"),
    (4, "12345678901234567890", "found '12345678901234567890'")])
def test_a_bad_cell_is_named(tmp_path, small, row, column, text, words):
    lines = damaged(small, row, column, text)
    path = write(tmp_path / "a.csv", "\n".join(lines) + "\n", "latin-1")
    name = "label" if column == 0 else f"pixel{column - 1}"
    with pytest.raises(DataError, match=rf"a\.csv: row {row} \(line {row + 2} of the file\), column {column} "
                                        rf"\('{name}'\): .*{words}"):
        kaggle.read_csv(path)


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("row", [0, 7])
def test_a_row_too_long_is_named(tmp_path, small, header, row):
    lines = table(*small, names(9) if header else None).splitlines()
    lines[row + header] += ",0,0"
    if row == 0 and not header:  # then it decides how many columns there are
        with pytest.raises(FileFormatError, match="found 12 columns; expected one a pixel"):
            kaggle.read_csv(write(tmp_path / "a.csv", "\n".join(lines)))
        return
    with pytest.raises(DataError, match=rf"row {row} \(line {row + 1 + header} of the file\) has 12 cells; .* in "
                                        "each of 10 columns"):
        kaggle.read_csv(write(tmp_path / "a.csv", "\n".join(lines)))


@pytest.mark.parametrize("more", [",", ",0"])
def test_a_column_without_a_name_is_not_dropped(tmp_path, small, more):
    header, *rows = table(*small, names(9)).splitlines()
    with pytest.raises(DataError, match=r"row 0 .* has 11 cells; .* 10 columns"):
        kaggle.read_csv(write(tmp_path / "a.csv", "\n".join([header, *(row + more for row in rows)])))


def test_a_file_is_examined_as_far_as_it_can_be_read(tmp_path, small):
    x, y = small
    lines = table(x, y, names(9)).splitlines()
    lines[3] = lines[3].replace(",", ", ", 1) + ",7"
    lines[5] = "oops" + lines[5][lines[5].index(","):]
    lines[11] = ",".join(lines[11].split(",")[:6]) + ","
    examined = kaggle.examine(write(tmp_path / "a.csv", "\n\n".join(lines)))
    assert examined.faults == [(2, 7, [], [], 1), (4, 11, [], [(0, "oops")], 0), (10, 23, [6, 7, 8, 9], [], 0)]
    assert (examined.layout.labelled, examined.layout.side, examined.layout.names[9]) == (True, 3, "pixel8")
    y[4] = x[10].flat[5:] = 0
    np.testing.assert_array_equal(examined.x, x)
    np.testing.assert_array_equal(examined.y, y)


def test_a_good_file_has_no_faults(tmp_path, small):
    examined = kaggle.examine(write(tmp_path / "a.csv", table(small[0])))
    np.testing.assert_array_equal(examined.x, small[0])
    assert (examined.y, examined.faults) == (None, [])


@pytest.mark.parametrize(("content", "words"), [
    (b"", "empty first line"), (b"\n1,2\n", "empty first line"), (b"pixel0,pixel1\n1,2\n", "found 2 columns"),
    (b"ImageId,Label\n1,2\n", r"2 columns \('ImageId', 'Label'\)"), (b"<html><body>", "web page"),
    (b"label;pixel0;pixel1\n1;2;3\n", "by commas"), (b",label,a,b,c,d\n0,1,2,3,4,5\n", r"index=False"),
    (b"a,b,c,d,label\n1,2,3,4,5\n", "5 columns .*label if there is one"), (b"1,2,3,4,5,6,7\n", "found 7 columns; "),
    (b"label,a,b,c\n1,2,3,4\n", "4 columns"), (b"\x89PNG\r\n\x1a\n\x00\x00", "found 1 columns"),
    (b'"' + b"9" * 200_000, "no table"), (b"label,a,b,c,d\n1,2,3,4,5\n1,2,x,4," + b"9" * 200_000, "line 3 is no row")])
def test_what_is_no_table_of_images_is_refused(tmp_path, content, words):
    (tmp_path / "a.csv").write_bytes(content)
    for read in (kaggle.read_csv, kaggle.examine):
        with pytest.raises(FileFormatError, match=words):
            read(tmp_path / "a.csv")


def test_a_header_alone_is_refused(tmp_path):
    path = write(tmp_path / "a.csv", ",".join(names(9)) + "\n")
    for read in (kaggle.read_csv, kaggle.examine):
        with pytest.raises(DataError, match="has a header and no row"):
            read(path)


def test_damaged_archives_are_refused(tmp_path, rng):
    x = rng.integers(0, 256, (200, 5, 5), dtype=np.uint8)
    text = table(x).encode()
    packed = gzip.compress(text)
    with zipfile.ZipFile(tmp_path / "good.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", text)
    zipped = bytearray((tmp_path / "good.zip").read_bytes())
    zipped[len(zipped) // 2] ^= 255
    cases = {"short.csv.gz": (packed[:-300], "truncated"), "bits.csv.gz": (packed[:900] + b"\0" * 9 + packed[909:],
             "damaged"), "bits.zip": (bytes(zipped), "damaged"), "short.zip": (bytes(zipped[:900]), "damaged")}
    for name, (content, words) in cases.items():
        (tmp_path / name).write_bytes(content)
        for read in (kaggle.read_csv, kaggle.examine):
            with pytest.raises(FileFormatError, match=rf"{name}: the compressed data .*{words}.*again"):
                read(tmp_path / name)


def test_text_without_end_is_refused_before_it_fills_the_memory(tmp_path, monkeypatch, small):
    path = write(tmp_path / "a.csv", table(*small))
    assert kaggle.read_csv(path)[0].shape == (11, 3, 3)
    monkeypatch.setattr(_text, "MOST_TEXT", path.stat().st_size - 1)
    with pytest.raises(FileFormatError, match=r"a\.csv: line .* found more than [0-9,]+ bytes of text; expected fewer"):
        kaggle.read_csv(path)


def test_a_file_that_is_not_there(tmp_path):
    for path in (tmp_path / "a.csv", tmp_path):
        with pytest.raises(OSError, match=path.name):
            kaggle.read_csv(path)


# --- the usual places --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("form", [".csv", ".csv.gz", ".csv.zip", "archive"])
def test_the_competitions_files_are_found(home, small, form):
    x, y = small
    texts = {"train": table(x, y, names(9)), "test": table(x[:5], names=names(9, labelled=False))}
    place = home / "checkout/data/kaggle"
    place.mkdir(parents=True)
    (home / "chosen").mkdir()
    write(home / "chosen" / "train.csv", texts["train"])  # without test.csv it does not count
    for name, text in texts.items():
        if form in (".csv", ".csv.gz"):
            (place / f"{name}{form}").write_bytes(gzip.compress(text.encode()) if form == ".csv.gz" else text.encode())
        else:
            archive = place / (kaggle.ARCHIVE if form == "archive" else f"{name}{form}")
            with zipfile.ZipFile(archive, "a") as file:
                file.writestr(f"{name}.csv", text)
    (x_train, y_train), x_test = kaggle.load_data()
    np.testing.assert_array_equal(x_train, x)
    np.testing.assert_array_equal(y_train, y)
    np.testing.assert_array_equal(x_test, x[:5])
    np.testing.assert_array_equal(kaggle.load_data(place)[1], x[:5])


def test_files_that_are_nowhere_and_files_without_labels(home, small):
    with pytest.raises(ArgumentError, match=rf"not in {home / 'chosen'}.*kaggle\.com"):
        kaggle.load_data()
    (home / "chosen").mkdir()
    for name in ("train", "test"):
        write(home / "chosen" / f"{name}.csv", table(small[0]))
    with pytest.raises(DataError, match=r"train\.csv has no labels"):
        kaggle.load_data()


@pytest.mark.needs("kaggle")
def test_the_competition_itself():
    folder = next(path for path in _places.places("kaggle") if kaggle.find(path, "train"))
    (x_train, y_train), x_test = kaggle.load_data(folder)
    assert (x_train.shape, y_train.shape, x_test.shape) == ((42000, 28, 28), (42000,), (kaggle.TEST_ROWS, 28, 28))
    assert y_train[:10].tolist() == [1, 0, 1, 4, 0, 0, 7, 3, 5, 3]
    assert np.bincount(y_train).tolist() == [4132, 4684, 4177, 4351, 4072, 3795, 4137, 4401, 4063, 4188]
    assert abs(x_train.mean() / 255 - 0.131) < 1e-3


# --- writing -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz"])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("labelled", [True, False])
def test_what_is_written_can_be_read(tmp_path, small, name, header, labelled):
    x, y = small[0], small[1] if labelled else None
    kaggle.write_csv(tmp_path / name, x, y, header)
    content = (tmp_path / name).read_bytes()
    text = gzip.decompress(content) if name.endswith("gz") else content
    assert text.decode() == table(x, y, names(9, labelled) if header else None)
    read, labels = kaggle.read_csv(tmp_path / name)
    np.testing.assert_array_equal(read, x)
    assert (labels is None) == (y is None)


@pytest.mark.parametrize("arrays", [
    (np.zeros((2, 3, 3)),), (np.zeros((2, 3, 4), np.uint8),), (np.zeros((2, 9), np.uint8),),
    (np.zeros((0, 3, 3), np.uint8),), (np.zeros((2, 3, 3), np.uint8), np.zeros(3, np.uint8)),
    (np.zeros((2, 3, 3), np.uint8), np.zeros(2))])
def test_what_cannot_be_written_is_refused(tmp_path, arrays):
    with pytest.raises(ArgumentError, match="write_csv got images"):
        kaggle.write_csv(tmp_path / "a.csv", *arrays)
    assert list(tmp_path.iterdir()) == []


def test_a_submission_counts_from_one(tmp_path):
    kaggle.write_submission(tmp_path / "submission.csv", np.array([7, 0, 9], np.int64))
    assert (tmp_path / "submission.csv").read_bytes() == b"ImageId,Label\n1,7\n2,0\n3,9\n"


@pytest.mark.parametrize(("labels", "words"), [
    ([1, 10], "label 10 for image 2"), ([-1, 3], "label -1 for image 1"), ([], "expected whole numbers"),
    (np.eye(3), "argmax"), ([1.0, 2.0], "float64")])
def test_a_wrong_submission_is_not_written(tmp_path, labels, words):
    path = write(tmp_path / "submission.csv", "older")
    with pytest.raises(DataError, match=words):
        kaggle.write_submission(path, labels)
    assert [Path(found).name for found in tmp_path.iterdir()] == ["submission.csv"]
    assert path.read_text() == "older"
