"""CSV files: images as rows of a table."""

from __future__ import annotations

import gzip
import io
import zipfile

from corpus import Case, as_file, as_folder
from corpus.doors import EXPLORE, KAGGLE, PREDICT, READ_CSV, TRAIN
from minicnn.errors import ArgumentError, DataError, FileFormatError

HEAD = "label," + ",".join(f"pixel{k}" for k in range(9))
ROWS = [[label, *range(label * 9, label * 9 + 9)] for label in range(10)]


def table(rows=ROWS, head=HEAD, end="\n"):
    """Return the text of a file."""
    return end.join([*([head] if head else []), *(",".join(map(str, row)) for row in rows)]) + end


def changed(row, column, text):
    """Return the text with another cell; None ends the row before it."""
    rows = [list(cells) for cells in ROWS]
    rows[row][column:] = [] if text is None else [text, *rows[row][column + 1:]]
    return table(rows)


def unlabelled(rows=ROWS):
    return table([row[1:] for row in rows], HEAD.partition(",")[2])


def zipped(names, method=zipfile.ZIP_DEFLATED, content=None):
    """Return a zip file with a table under each name."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as archive:
        for name in names:
            archive.writestr(name, table() if content is None else content)
    return bytearray(packed.getvalue())


def encrypted():
    """Return a zip file that says its member needs a password."""
    packed = zipped(["a.csv"])
    packed[6] |= 1
    packed[packed.index(b"PK\1\2") + 8] |= 1
    return bytes(packed)


def unknown_method():
    packed = zipped(["a.csv"])
    packed[8] = 99
    packed[packed.index(b"PK\1\2") + 10] = 99
    return bytes(packed)


def flipped(packed):
    packed[60] ^= 255
    return bytes(packed)


GOOD, PACKED = table(), gzip.compress(table().encode(), mtime=0)
PLACE = ("row 3 (line 5 of the file), column 4 ('pixel3')",)
CELLS = {"blank": "", "of text": "ink", "nan": "nan", "inf": "inf", "of 300": "300", "of -5": "-5", "of 1.5": "1.5",
         "with a thousands separator": "1_0", "of 1e99": "1e99", "of 400 digits": "9" * 400, "of true": "True",
         "with a formula": "=1+1", "in hexadecimal": "0x1F", "with a NUL": "1\0"}
FILES = {
    "empty": (b"", "empty first line"),
    "a single line end": (b"\n", "empty first line"),
    "separated by semicolons": (GOOD.replace(",", ";").encode(), "Separate the columns by commas"),
    "separated by tabs": (GOOD.replace(",", "\t").encode(), "Separate the columns by commas"),
    "in UTF-16": (GOOD.encode("utf-16"), "UTF-16"),
    "in UTF-16 without a mark": (GOOD.encode("utf-16-le"), "UTF-16"),
    "in other digits": (table([[1] * 9 + ["\uff11"]]).encode(), "a table of numbers"),
    "a BOM and nothing": (b"\xef\xbb\xbf", "empty first line"),
    "a web page": (b"<!DOCTYPE html>\n<html>\n", "web page"),
    "a picture": (b"\x89PNG\r\n\x1a\n\0\0", "found 1 columns"),
    "of 8 columns": (b"1,2,3,4,5,6,7,8\n", "found 8 columns"),
    "with the label last": (b"pixel0,pixel1,pixel2,pixel3,label\n1,2,3,4,5\n", "found 5 columns"),
    "a submission": (b"ImageId,Label\n1,2\n", "found 2 columns"),
    "with pandas' row numbers": (b",label,a,b,c,d\n0,1,2,3,4,5\n", "index=False"),
    "of NUL bytes": (bytes(5000), "NUL bytes"),
    "with a line of 2 MB": (b"9" * 2_000_000, "line 1"),
    "with a cell of 200,000 digits": ((changed(3, 4, "9" * 200_000)).encode(), "line 5"),
    "with a quotation mark never closed": (changed(3, 4, '"3').encode(), "line 5"),
    "gzipped, cut": (PACKED[:-12], "truncated"),
    "gzipped, bad CRC": (PACKED[:-8] + bytes(4) + PACKED[-4:], "damaged"),
    "gzipped, trailing garbage": (PACKED + b"rubbish", "damaged"),
    "a gzip bomb of one line": (gzip.compress(bytes(2**27)), "line 1"),
    "a gzip bomb of one line behind a header": (gzip.compress(GOOD.encode() + b"0" * 2**27), "line 12"),
    "a gzip bomb in quotation marks": (gzip.compress(GOOD.encode() + b'"' + b"0\n" * 2**26), "line 12"),
    "a zip bomb": (bytes(zipped(["a.csv"], content=GOOD + "0" * 2**27)), "line 12"),
    "zipped, a damaged byte": (flipped(zipped(["a.csv"])), "damaged"),
    "zipped, cut": (bytes(zipped(["a.csv"])[:-30]), "damaged"),
    "zipped, with a password": (encrypted(), "password"),
    "zipped by an unknown method": (unknown_method(), "method"),
    "zipped with LZMA": (bytes(zipped(["a.csv"], zipfile.ZIP_LZMA)), "method"),
}
HEADERS = {
    "header only": (HEAD + "\n", "has a header and no row"),
    "header twice": (GOOD + GOOD, "row 10 (line 12 of the file), column 0 ('label'): found 'label'"),
    "columns in another order": (table(head=HEAD.replace("pixel3,pixel4", "pixel4,pixel3")), "'pixel4'"),
    "a column twice": (table(head=HEAD.replace("pixel4", "pixel3")), "'pixel3'"),
    "the label twice": (table(head=HEAD.replace("pixel4", "label")), "found 10 columns"),
    "a column without a name": (table(head=f"{HEAD},,,"), "found 13 columns"),
    "a row too long": (GOOD.replace("8,72", "8,1,2,3,72"), "row 8 (line 10 of the file) has 13 cells"),
    "the first row too long": (GOOD.replace("0,0,1", "0,0,0,0,1"), "row 0 (line 2 of the file) has 12 cells"),
    "a row too short": (changed(3, 4, None), "row 3 (line 5 of the file), column 4 ('pixel3'): found nothing"),
    "a last line cut short": (GOOD[:-9], "row 9 (line 11 of the file), column 7 ('pixel6'): found nothing"),
    "an empty label": (changed(3, 0, ""), "row 3 (line 5 of the file), column 0 ('label'): found nothing"),
    "a label of text": (changed(3, 0, "three"), "column 0 ('label'): found 'three'"),
    "a label of 256": (changed(3, 0, "256"), "column 0 ('label'): found '256'"),
    "a label that is no whole number": (changed(3, 0, "2.5"), "column 0 ('label'): found '2.5'"),
}


def _both(train, test):
    return as_folder({"train.csv": train.encode(), "test.csv": test.encode()})


COMPETITION = {
    "test given as training": (_both(unlabelled(), unlabelled()), ("train.csv", "no labels")),
    "training given as test": (_both(GOOD, GOOD), ("test.csv", "labels")),
    "both exchanged": (_both(unlabelled(), GOOD), ("train.csv", "no labels")),
    "label 10": (_both(changed(3, 0, "10"), unlabelled()), ("train.csv", "row 3", "label 10")),
    "test images of another size": (_both(GOOD, "1,2,3,4\n"), ("test.csv", "(2, 2)", "(3, 3)")),
    "test images with a wrong cell": (_both(GOOD, unlabelled().replace("44", "x")), ("test.csv", "row 4", "'x'")),
}
CASES = [
    *(Case("CSV", f"a cell {name}", as_file("a.csv", changed(3, 4, text).encode()), READ_CSV,
           (*PLACE, "found nothing" if text in ("", "nan") else f"found {text[:20]!r}"), DataError)
      for name, text in CELLS.items()),
    *(Case("CSV", name, as_file("a.csv", text.encode()), READ_CSV, (words,),
           FileFormatError if "columns" in words or words[0] == "'" else DataError)
      for name, (text, words) in HEADERS.items()),
    *(Case("CSV", name, as_file("a.csv", content), door, (words,)) for name, (content, words) in FILES.items()
      for door in (READ_CSV, EXPLORE)),
    *(Case("CSV", name, make, KAGGLE, words, DataError, named=False) for name, (make, words) in COMPETITION.items()),
    *(Case("CSV", f"a cell {name}", as_file("a.csv", changed(3, 4, text).encode()), door, PLACE)
      for name, text in list(CELLS.items())[:3] for door in (TRAIN, PREDICT)),
    Case("CSV", "without labels", as_file("test.csv", unlabelled().encode()), TRAIN, ("no labels",)),
    Case("CSV", "images of another size", as_file("test.csv", unlabelled().encode()), PREDICT,
         ("(2, 2, 1)", "(3, 3)"), named=False),
    Case("CSV", "several in a zip file", as_file("all.zip", bytes(zipped(["a.csv", "b.csv"]))), READ_CSV,
         ("a.csv, b.csv", "Name one"), ArgumentError),
    Case("CSV", "too few rows to split", as_file("a.csv", table(ROWS[:1]).encode()), TRAIN, ("has 1 images",)),
]
