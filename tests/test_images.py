"""Pixels: one function makes them, and training, endpoint, export and page get the same ones."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from seethink.ask.messages import call_key, data_url, user_message
from seethink.core.errors import UserError
from seethink.core.images import check_image, image_size, open_image, portable

HERE = Image.Transpose
TURNS = [
    None, HERE.FLIP_LEFT_RIGHT, HERE.ROTATE_180, HERE.FLIP_TOP_BOTTOM, HERE.TRANSPOSE, HERE.ROTATE_90, HERE.TRANSVERSE,
    HERE.ROTATE_270,
]  # fmt: skip
"""How a camera stored an upright scene, by the EXIF orientation 1 to 8 that undoes it."""


def scene(mode="RGB", size=(6, 4)):
    values = np.arange(size[0] * size[1] * 3, dtype=np.uint8).reshape(size[1], size[0], 3) * 3
    return Image.fromarray(values).convert(mode)


def pixels(path):
    return np.asarray(open_image(str(path)))


def sent(path):
    return np.asarray(Image.open(io.BytesIO(portable(str(path))[0])).convert("RGB"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photograph_is_turned_upright_for_everyone(tmp_path, orientation):
    upright, turn = scene(), TURNS[orientation - 1]
    stored = upright.transpose(turn) if turn is not None else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(pixels(tmp_path / "a.png"), np.asarray(upright))
    assert np.array_equal(sent(tmp_path / "a.png"), np.asarray(upright))
    assert image_size(str(tmp_path / "a.png")) == check_image(str(tmp_path / "a.png")) == (6, 4)
    stored.save(tmp_path / "a.tif", exif=exif)
    assert pixels(tmp_path / "a.tif").shape == (4, 6, 3) and image_size(str(tmp_path / "a.tif")) == (6, 4)
    again = Image.open(io.BytesIO(base64.b64decode(data_url(str(tmp_path / "a.png")).partition(",")[2])))
    assert again.getexif().get(0x0112, 1) == 1


def transparent(mode):
    image = Image.new("RGBA", (4, 4), (200, 10, 10, 0))
    image.putpixel((1, 1), (0, 0, 0, 255))
    if mode == "P":
        image = image.quantize(4)
    return image.convert(mode) if mode == "LA" else image


@pytest.mark.parametrize(
    ("mode", "format"), [("RGBA", "png"), ("LA", "png"), ("P", "png"), ("RGBA", "gif"), ("RGBA", "webp")]
)
def test_transparency_lies_on_white(tmp_path, mode, format):
    path = tmp_path / f"a.{format}"
    transparent(mode).save(path, lossless=True, exact=True)  # of WebP; other formats take no notice
    expected = np.full((4, 4, 3), 255)
    expected[1, 1] = 0
    assert np.array_equal(pixels(path), expected) and np.array_equal(sent(path), expected)


def test_a_colour_that_stands_for_transparency_is_white(tmp_path):
    Image.new("RGB", (2, 2), (9, 9, 9)).save(tmp_path / "a.png", transparency=(9, 9, 9))
    Image.fromarray(np.full((2, 2), 9, np.uint16)).save(tmp_path / "b.png", transparency=9)
    assert (pixels(tmp_path / "a.png") == 255).all() and (pixels(tmp_path / "b.png") == 255).all()


@pytest.mark.parametrize("format", ["png", "tiff"])
def test_16_bit_grey_is_scaled_and_never_clipped(tmp_path, format):
    ramp = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    Image.fromarray(ramp).save(tmp_path / f"a.{format}")
    grey = pixels(tmp_path / f"a.{format}")[..., 0]
    assert np.array_equal(grey.ravel(), np.arange(256)) and np.array_equal(sent(tmp_path / f"a.{format}")[..., 0], grey)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_a_scale_that_nobody_knows_is_refused(tmp_path, mode):
    Image.new(mode, (4, 4), 1).save(tmp_path / "a.tiff")
    with pytest.raises(UserError, match="a.tiff has 32-bit pixels.*8 bits"):
        open_image(str(tmp_path / "a.tiff"))


@pytest.mark.parametrize(
    ("mode", "format", "as_it_is"),
    [("RGB", "png", True), ("L", "png", True), ("P", "png", True), ("RGB", "jpeg", True), ("L", "jpeg", True)]
    + [
        ("CMYK", "jpeg", False),
        ("RGB", "webp", False),
        ("RGB", "tiff", False),
        ("RGB", "bmp", False),
        ("1", "png", True),
    ],
)
def test_a_file_travels_as_it_is_only_where_its_pixels_are_ours(tmp_path, mode, format, as_it_is):
    path = tmp_path / "a.picture"
    scene(mode).save(path, format)
    data, suffix = portable(str(path))
    assert (data == path.read_bytes()) == as_it_is and suffix == (".jpg" if as_it_is and format == "jpeg" else ".png")
    assert np.array_equal(sent(path), pixels(path))


def test_of_an_animation_the_first_frame_counts(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (pixels(tmp_path / "a.gif")[0, 0] == (255, 0, 0)).all() and portable(str(tmp_path / "a.gif"))[1] == ".png"


def test_a_turned_picture_is_another_question(tmp_path):
    """An answer in the ledger to the picture as it lay is no answer to the one that now travels."""
    scene().save(tmp_path / "a.png")
    before = call_key("m", user_message("?", [str(tmp_path / "a.png")]), {}, 0)
    exif = Image.Exif()
    exif[0x0112] = 6
    scene().save(tmp_path / "a.png", exif=exif)
    assert call_key("m", user_message("?", [str(tmp_path / "a.png")]), {}, 0) != before


NOISE = io.BytesIO()
Image.effect_noise((64, 64), 50).save(NOISE, "PNG")
PHOTO = io.BytesIO()
Image.effect_noise((64, 64), 50).save(PHOTO, "JPEG")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.png cannot be read: it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS.*git lfs pull"),
        (b"<!DOCTYPE html><html>", "web page.*Download"),
        (b"\xef\xbb\xbf  <HTML>", "web page.*Download"),
        (b"<svg xmlns='x'/>", "SVG"),
        (b'{"error": "not found"}', "JSON"),
        (b"%PDF-1.4", "PDF"),
        (b"not an image", "cannot be read"),
        (NOISE.getvalue()[:500], "cannot be read"),
        (PHOTO.getvalue()[:-200], "truncated"),
    ],
)
def test_what_is_no_picture_is_said(tmp_path, content, message):
    path = tmp_path / "a.png"
    path.write_bytes(content)
    for read in (open_image, check_image, portable):
        with pytest.raises(UserError, match=f"^row 3: .*{message}"):
            read(str(path), "row 3")


@pytest.mark.parametrize(
    ("size", "message"), [((4096, 18), "228 times"), ((1, 201), "201 times"), ((20000, 6000), "20000 x 6000")]
)
def test_strips_and_bombs_are_refused_by_their_header(tmp_path, size, message):
    Image.new("1", size).save(tmp_path / "a.png")
    for read in (open_image, image_size, check_image, portable):
        with pytest.raises(UserError, match=message):
            read(str(tmp_path / "a.png"))
    Image.new("1", (200, 1)).save(tmp_path / "b.png")
    assert image_size(str(tmp_path / "b.png")) == (200, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "is PostScript.*Save it as PNG"),
        (b"\0\0\0\x18ftypheic" + bytes(50), "no known kind of picture"),
        (b"\x1f\x8b\x08" + bytes(20), "compressed with gzip.*gunzip"),
    ],
)
def test_what_is_no_picture_is_named_and_never_run(tmp_path, content, message):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UserError, match=message):
        check_image(str(tmp_path / "a.png"))
