"""Pictures of digits become images like MNIST's: whatever the paper, the place, the size and the format of the file."""

from __future__ import annotations

import functools
import io

import numpy as np
import pytest
from PIL import Image

import photos
from minicnn.datasets import strokes
from minicnn.errors import ArgumentError, DataError, FileFormatError

pytestmark = pytest.mark.usefixtures("reference_kernels", "threads")


@functools.cache
def drawn():
    x, y = strokes.draw_split(10, 3, "photos")
    return x[np.argsort(y)]


@pytest.fixture
def digits(reference_kernels):
    """Return one image of each digit, white ink on black, framed as MNIST's are."""
    return drawn().copy()


def enlarged(image, factor=5):
    size = 28 * factor
    return np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC), float) / 255


def on_paper(ink, height, width, top, left):
    """Return a sheet (height, width) of 0 to 1 with ink at a place."""
    sheet = np.zeros((height, width))
    sheet[top:top + len(ink), left:left + ink.shape[1]] = ink
    return sheet


def picture(grey):
    return Image.fromarray(np.clip(np.rint(grey), 0, 255).astype(np.uint8))


def read(tmp_path, image, name="digit.png", **options):
    image.save(tmp_path / name, **options)
    return photos.read(tmp_path / name)


def likeness(image, other):
    """Return the correlation of two images, one of them moved by a pixel at most: the centre of mass is rounded."""
    moved = (np.roll(image, (i, j), (0, 1)) for i in (-1, 0, 1) for j in (-1, 0, 1))
    return max(np.corrcoef(one.ravel().astype(float), other.ravel().astype(float))[0, 1] for one in moved)


# --- what comes out ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("digit", range(10))
def test_an_image_framed_like_mnist_comes_back_as_it_is_on_black_and_on_white(tmp_path, digits, digit):
    image = digits[digit]
    found = read(tmp_path, Image.fromarray(image))
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - image).max() <= 3
    np.testing.assert_array_equal(read(tmp_path, Image.fromarray(255 - image)), found)


@pytest.mark.parametrize("digit", [1, 5, 8])
def test_a_photo_on_unevenly_lit_paper_with_noise_and_specks(tmp_path, rng, digits, digit):
    ink = on_paper(enlarged(digits[digit]), 190, 250, 30, 90)
    i, j = np.mgrid[:190, :250] / 250
    paper = 190 - 60 * i - 40 * j - 50 * (j - 0.5) ** 2
    grey = paper * (1 - 0.7 * ink) + rng.normal(0, 5, ink.shape)
    grey[20:23, 30:33] = grey[170:173, 230:233] = 30
    found = read(tmp_path, picture(grey), "photo.jpg", quality=70)
    assert likeness(found, digits[digit]) > 0.9


def test_the_digit_fills_its_box_with_its_mass_in_the_middle(tmp_path, digits):
    for image, (height, width) in zip(digits, [(150, 200), (200, 150)] * 5):
        sheet = np.asarray(picture(255 * enlarged(image)).resize((width, height)), float)
        found = read(tmp_path, picture(255 - np.pad(sheet, 9)))
        rows, columns = (np.flatnonzero(found.any(axis=axis)) for axis in (1, 0))
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
        mass = found / found.sum()
        middle = [float((mass * np.mgrid[:28, :28][axis]).sum()) for axis in (0, 1)]
        assert np.abs(np.array(middle) - 14).max() <= 0.51
        assert found.max() == 255


def test_place_and_margin_do_not_matter(tmp_path, digits):
    ink = enlarged(digits[3])
    found = [read(tmp_path, picture(255 - 255 * on_paper(ink, *sheet)))
             for sheet in ((200, 250, 10, 60), (200, 250, 30, 5), (390, 180, 210, 8))]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_a_small_digit_on_a_large_sheet(tmp_path, rng, digits):
    """The sheet is averaged down, by a whole number, before it is looked at."""
    grey = 220 - 150 * on_paper(enlarged(digits[2], 6), 500, 801, 30, 600) + rng.normal(0, 6, (500, 801))
    assert likeness(read(tmp_path, picture(grey)), digits[2]) > 0.95


def test_what_lies_beside_the_paper_is_no_ink(tmp_path, rng, digits):
    grey = np.full((200, 240), 70.0)
    grey[:, :205] = 215 - 150 * on_paper(enlarged(digits[6]), 200, 205, 30, 25)
    found = read(tmp_path, picture(grey + rng.normal(0, 3, grey.shape)))
    assert likeness(found, digits[6]) > 0.97


def test_paper_on_a_dark_table_on_all_sides(tmp_path, rng, digits):
    grey = np.full((240, 260), 60.0)
    grey[20:220, 25:235] = 215 - 150 * on_paper(enlarged(digits[6]), 200, 210, 30, 25)
    assert likeness(read(tmp_path, picture(grey + rng.normal(0, 3, grey.shape))), digits[6]) > 0.95


def test_a_digit_along_the_whole_edge_is_still_a_digit(tmp_path):
    """A seven cropped to its ink: nothing else is there."""
    seven = np.zeros((40, 30))
    seven[:6], seven[:, 24:] = 1, 1
    found = read(tmp_path, picture(255 * seven))
    assert [np.ptp(np.flatnonzero(found.any(axis=axis))) + 1 for axis in (1, 0)] == [20, 15]


def test_a_second_stroke_stays_and_a_speck_goes(tmp_path):
    ink = np.zeros((80, 80))
    ink[20:60, 20:28] = 1
    ink[20:30, 40:46] = 1     # a good part of the first
    ink[5:8, 70:73] = 1       # a thirtieth of it
    kept = photos.find_ink(255 - 200 * ink)
    wanted = ink.copy()
    wanted[5:8] = 0
    np.testing.assert_allclose(kept, wanted, atol=1e-9)


# --- forms of a file ---------------------------------------------------------------------------------------------

def as_rgb(sheet, ink=(20, 40, 150), paper=(240, 230, 200)):
    shares = sheet[..., None]
    return Image.fromarray(np.rint(shares * ink + (1 - shares) * np.array(paper)).astype(np.uint8))


def as_alpha(sheet, shade):
    image = np.full((*sheet.shape, 4), shade, np.uint8)
    image[..., 3] = np.rint(255 * sheet)
    return Image.fromarray(image)


FORMS = {
    "colour": as_rgb,
    "palette": lambda sheet: as_rgb(sheet, paper=(250, 250, 250)).quantize(64),
    "black on nothing": lambda sheet: as_alpha(sheet, 0),
    "white on nothing": lambda sheet: as_alpha(sheet, 255),
    "grey and alpha": lambda sheet: picture(255 - 255 * sheet).convert("LA"),
    "16 bits": lambda sheet: Image.fromarray((60000 - 50000 * sheet).astype(np.uint16)),
    "black and white": lambda sheet: picture(255 - 255 * sheet).convert("1", dither=Image.Dither.NONE),
}


@pytest.mark.parametrize("form", FORMS)
def test_any_kind_of_picture(tmp_path, digits, form):
    sheet = on_paper(enlarged(digits[3]), 160, 180, 12, 20)
    plain = read(tmp_path, picture(255 - 255 * sheet))
    found = read(tmp_path, FORMS[form](np.clip(sheet, 0, 1)))
    assert likeness(found, plain) > (0.95 if form == "black and white" else 0.99)


def test_a_camera_may_have_been_turned(tmp_path, digits):
    image = picture(255 - 255 * on_paper(enlarged(digits[7]), 200, 230, 12, 40))
    upright = read(tmp_path, image)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    found = read(tmp_path, image.transpose(Image.Transpose.ROTATE_90), exif=exif)
    np.testing.assert_array_equal(found, upright)


# --- what is no digit --------------------------------------------------------------------------------------------

@pytest.mark.parametrize("make", [
    lambda rng: np.full((60, 80), 255.0), lambda rng: np.zeros((60, 80)), lambda rng: np.full((1, 1), 9.0),
    lambda rng: 200 - 80 * np.mgrid[:90, :70][0] / 90, lambda rng: 180 + rng.normal(0, 5, (200, 300))],
    ids=["white", "black", "one pixel", "shade", "noise"])
def test_paper_without_ink_is_said_to_be_so(tmp_path, rng, make):
    with pytest.raises(DataError, match=r"digit\.png: found no ink; expected one digit"):
        read(tmp_path, picture(make(rng)))


def test_what_is_no_picture_is_refused(tmp_path, digits, monkeypatch):
    buffer = io.BytesIO()
    Image.fromarray(np.tile(digits[0], (4, 4))).save(buffer, format="PNG")
    contents = {"a.png": b"no picture", "b.png": b"", "c.png": buffer.getvalue()[:-200], "d.jpg": b"\xff\xd8\xff\xe0"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FileFormatError, match=rf"{name} cannot be read as a picture"):
            photos.read(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        photos.read(tmp_path / "nothing.png")
    for limit in (5000, 8000):  # an error from twice the limit on, a warning before
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(FileFormatError, match="decompression bomb"):
            read(tmp_path, Image.fromarray(np.tile(digits[0], (4, 4))))


def test_the_pictures_of_a_folder(tmp_path):
    for name in ("b.PNG", "a.jpeg", "notes.txt", "c.webp"):
        (tmp_path / name).touch()
    (tmp_path / "empty").mkdir()
    assert [path.name for path in photos.files(tmp_path)] == ["a.jpeg", "b.PNG", "c.webp"]
    assert photos.files(tmp_path / "b.PNG") == [tmp_path / "b.PNG"]
    with pytest.raises(ArgumentError, match=r"holds no pictures; expected files that end in \.png"):
        photos.files(tmp_path / "empty")
