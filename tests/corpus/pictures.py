"""Pictures: damaged ones, ones that take too much room, and ones with no digit on them."""

from __future__ import annotations

import functools
import io
import struct
import zlib

import numpy as np
from PIL import Image

from corpus import Case, as_file, as_folder
from corpus.doors import PICTURE, PREDICT
from minicnn.errors import DataError


@functools.cache
def sheet():
    """Return a picture of a bar."""
    grey = np.full((60, 50), 240, np.uint8)
    grey[15:45, 20:26] = 30
    return grey


def encoded(array, form="PNG", **options):
    """Return a picture as a file."""
    buffer = io.BytesIO()
    picture = array if isinstance(array, Image.Image) else Image.fromarray(array)
    picture.save(buffer, format=form, **options)
    return buffer.getvalue()


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def huge_png(side, depth=8, colour=0, content=b"\0" * 99):
    """Return a PNG that says how large it is and has next to nothing in it."""
    head = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(content)) + chunk(b"IEND", b"")


def frames(form, count=3):
    pictures = [Image.fromarray(np.roll(sheet(), 5 * number, axis=1)) for number in range(count)]
    return encoded(pictures[0], form, save_all=True, append_images=pictures[1:])


PNG, JPEG = encoded(sheet()), encoded(sheet(), "JPEG")
RGBA = np.zeros((60, 50, 4), np.uint8)
DAMAGED = {
    "empty": ("a.png", b""),
    "text": ("a.png", b"no picture\n"),
    "a web page": ("a.jpg", b"<!DOCTYPE html>\n<html>"),
    "cut in the pixels": ("a.png", PNG[:-60]),
    "cut in the header": ("a.png", PNG[:20]),
    "a JPEG that ends at once": ("a.jpg", b"\xff\xd8\xff\xe0"),
    "a JPEG cut in the pixels": ("a.jpg", JPEG[:len(JPEG) // 2]),
    "a damaged checksum": ("a.png", PNG[:30] + bytes([PNG[30] ^ 255]) + PNG[31:]),
    "no pixels": ("a.png", huge_png(0)),
    "fewer rows than it says": ("a.png", huge_png(60)),
    "a GIF cut": ("a.gif", encoded(sheet(), "GIF")[:30]),
    "a TIFF cut": ("a.tif", encoded(sheet(), "TIFF")[:50]),
    "a BMP cut": ("a.bmp", encoded(sheet(), "BMP")[:60]),
    "a WebP cut": ("a.webp", encoded(sheet(), "WEBP")[:40]),
    "a program in PostScript": ("a.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"),
}
LARGE = {
    "20,000 x 20,000": ("a.png", huge_png(20_000), "400000000 pixels"),
    "9,000 x 9,000, below Pillow's own limit": ("a.png", huge_png(9_000, 8, 6), "9,000 x 9,000"),
    "5,000 x 5,000 in colour of 16 bits": ("a.png", huge_png(5_000, 16, 6), "5,000 x 5,000"),
    "2**31 - 1 in both directions": ("a.png", huge_png(2**31 - 1), "pixels"),
    "a long animation": ("a.gif", frames("GIF"), "several pictures"),
    "an animated PNG": ("a.png", frames("PNG"), "several pictures"),
    "an animated WebP": ("a.webp", frames("WEBP"), "several pictures"),
    "a TIFF of several pages": ("a.tif", frames("TIFF"), "several pictures"),
}
EMPTY = {
    "one pixel": encoded(np.full((1, 1), 9, np.uint8)),
    "one pixel of 16 bits": encoded(np.full((1, 1), 999, np.uint16)),
    "one row": encoded(np.full((1, 300), 200, np.uint8)),
    "white": encoded(np.full((60, 50), 255, np.uint8)),
    "black": encoded(np.zeros((60, 50), np.uint8)),
    "transparent all over": encoded(RGBA),
    "ink as transparent as the paper": encoded(np.dstack([sheet(), sheet(), sheet(), np.zeros_like(sheet())])),
    "one grey of 16 bits": encoded(np.full((60, 50), 30_000, np.uint16)),
    "a faint shade": encoded(np.full((60, 50), 240, np.uint8) - np.arange(50, dtype=np.uint8) // 25),
    "NaN in every pixel": encoded(np.full((60, 50), np.nan, np.float32), "TIFF"),
}
CASES = [
    *(Case("picture", name, as_file(file, content), PICTURE, ("cannot be read as a picture",))
      for name, (file, content) in DAMAGED.items()),
    *(Case("picture", name, as_file(file, content), PICTURE, (words,))
      for name, (file, content, words) in LARGE.items()),
    *(Case("picture", name, as_file("a.tif" if "NaN" in name else "a.png", content), PICTURE, ("no ink",), DataError)
      for name, content in EMPTY.items()),
    *(Case("picture", name, as_file(*DAMAGED[name]), PREDICT, ("cannot be read as a picture",))
      for name in ("empty", "cut in the pixels", "a JPEG cut in the pixels")),
    *(Case("picture", name, as_file(*LARGE[name][:2]), PREDICT, (LARGE[name][2],))
      for name in ("20,000 x 20,000", "a long animation")),
    *(Case("picture", name, as_file("a.png", EMPTY[name]), PREDICT, ("no ink",))
      for name in ("one pixel", "transparent all over")),
    Case("picture", "a folder without pictures", as_folder({"notes.txt": b"none"}), PREDICT, ("holds no pictures",)),
]
