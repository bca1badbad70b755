"""IDX files and their compression."""

from __future__ import annotations

import gzip

import numpy as np

from corpus import Case, as_file, as_folder
from corpus.doors import LOAD_DATA, PREDICT, READ_IDX, TRAIN
from minicnn.datasets.idx import header
from minicnn.errors import DataError, FileFormatError
from mnist_files import NAMES, small_set

IMAGES = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3)
GOOD = header(IMAGES.shape) + IMAGES.tobytes()
PACKED = gzip.compress(GOOD, mtime=0)
LARGE = 2**26  # bytes that a bomb claims or really has
HTML = b"<!DOCTYPE html>\n<html><body>Please log in</body></html>\n"

PLAIN = {
    "empty": (b"", "byte 0: found an empty file"),
    "two bytes": (GOOD[:2], "byte 0: found 00 00 and the end"),
    "cut in the sizes": (GOOD[:13], "byte 13: found the end of the file; expected 3 sizes"),
    "cut in the data": (GOOD[:-7], "byte 39: found the end of the file, which has 39 bytes; expected 30 bytes"),
    "one byte short": (GOOD[:-1], "byte 45: found the end of the file"),
    "one byte long": (GOOD + b"\0", "byte 46: found more bytes"),
    "wrong magic": (b"PK\3\4" + GOOD[4:], "byte 0: found 50 4b 03 04; expected the magic number 00 00 08"),
    "magic in the other byte order": (GOOD[3::-1] + GOOD[4:], "byte 0: found 03 08 00 00"),
    "signed bytes": (b"\0\0\x09\3" + GOOD[4:], "elements of type signed byte"),
    "floats": (b"\0\0\x0d\1\0\0\0\1" + bytes(4), "elements of type float"),
    "rank 200": (b"\0\0\x08\xc8" + bytes(900), "rank of at most 32"),
    "a web page": (HTML, "web page"),
    "a picture": (b"\x89PNG\r\n\x1a\n" + bytes(50), "byte 0: found 89 50 4e 47"),
    "text": (b"label,pixel0\n1,2\n", "byte 0: found 6c 61 62 65"),
    "sizes of 2**31": (header((2**31, 5, 3)) + bytes(30), "byte 4: found sizes 2147483648 x 5 x 3"),
    "sizes that overflow 64 bits": (header((2**32 - 1,) * 3) + bytes(50), "byte 4: found sizes 4294967295 x"),
    "sizes that overflow to the right number": (header((2**31, 2**31, 4)) + bytes(30), "byte 4: found sizes"),
    "no images, sizes beyond memory": (header((0, 2**32 - 1, 2**32 - 1)), "byte 4: found sizes 0 x 4294967295"),
    "sizes beyond the file": (header((2**13, 2**13)) + bytes(50), "byte 62: found the end"),
}
COMPRESSED = {
    "gzip bytes under a plain name, cut": (PACKED[:-12], "gzip stream: found the end of the file; expected more"),
    "cut in the header": (PACKED[:5], "of the gzip stream: found the end of the file"),
    "bad CRC": (PACKED[:-8] + bytes(4) + PACKED[-4:], "CRC check failed"),
    "bad length": (PACKED[:-4] + b"\1\0\0\0", "found damaged data"),
    "a damaged block": (PACKED[:10] + b"\xff" * 8 + PACKED[18:], "found damaged data"),
    "an unknown method": (PACKED[:2] + b"\7" + PACKED[3:], "Unknown compression method"),
    "trailing garbage": (PACKED + b"rubbish", "found damaged data"),
    "half a second member": (PACKED + PACKED[:9], "found the end of the file; expected more compressed data"),
    "data one byte short": (gzip.compress(GOOD[:-1]), "byte 45: found the end of the data after 29 bytes"),
    "data one byte long": (gzip.compress(GOOD + b"\0"), "byte 46: found more bytes"),
    "gzipped twice": (gzip.compress(PACKED), "gzipped twice"),
    "an HTML page saved as .gz": (HTML, "web page"),
    "an HTML page, gzipped": (gzip.compress(b"\n" + HTML), "web page"),
    "a bomb behind the data": (gzip.compress(header((7,)) + bytes(LARGE)), "byte 15: found more bytes"),
    "a bomb that claims more": (gzip.compress(header((2**13, 2**13)) + bytes(2**16)), "expected 67108864 bytes"),
    "a bomb beyond the limit": (gzip.compress(header((2**20, 2**13)) + bytes(LARGE)), "at most 1073741824 bytes"),
    "nothing but zeros, 64 MiB of them": (gzip.compress(bytes(LARGE)), "byte 0: found 00 00 00 00"),
}


def _set(**changes):
    """Return the four files of a data set, some of them replaced: ``x`` and ``y`` for training, ``v`` and ``w``."""
    arrays = dict(zip("xyvw", small_set()))
    contents = {key: header(array.shape) + array.tobytes() for key, array in arrays.items()} | changes
    return {name: content for name, content in zip(NAMES, contents.values()) if content is not None}


def _of(array):
    return header(array.shape) + array.astype(np.uint8).tobytes()


TRAINED, LABELS, TESTED, ANSWERS = small_set()
SETS = {
    "labels given as images": (_set(x=_of(LABELS)), (NAMES[0], "rank 1; expected images, rank 3")),
    "images given as labels": (_set(w=_of(TESTED)), (NAMES[3], "rank 3; expected labels, rank 1")),
    "fewer labels than images": (_set(y=_of(LABELS[:-1])), ("has 4 images", "3 labels")),
    "more labels than images": (_set(w=_of(np.ones(9))), ("has 3 images", "9 labels")),
    "test images turned": (_set(v=_of(TESTED.transpose(0, 2, 1))), ("(5, 4)", "(4, 5); expected one size")),
    "images without pixels": (_set(x=_of(TRAINED[:, :0]), v=_of(TESTED[:, :0])), ("no pixel",)),
    "no images": (_set(x=_of(TRAINED[:0]), y=_of(LABELS[:0])), ("found sizes (0, 5, 4), no pixel",)),
    "a file that is a web page": (_set(y=HTML), (NAMES[1], "web page")),
    "a file that is cut": (_set(v=_of(TESTED)[:-9]), (NAMES[2], "byte 67", "truncated")),
}
CASES = [
    *(Case("IDX", name, as_file("some-file", content), READ_IDX, (words,)) for name, (content, words) in PLAIN.items()),
    *(Case("gzip", name, as_file("some-file.gz", content), READ_IDX, (words,))
      for name, (content, words) in COMPRESSED.items()),
    *(Case("IDX", name, as_folder(files), LOAD_DATA, words,
           FileFormatError if name.startswith("a file") else DataError) for name, (files, words) in SETS.items()),
    *(Case("IDX", name, as_folder(files), TRAIN, words) for name, (files, words) in SETS.items()),
    Case("IDX", "given as a table", as_file("images.csv", GOOD), PREDICT, ("UTF-16",)),
]
