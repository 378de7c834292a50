"""Images: the one place that makes pixels of a file, so that training, endpoints and pages see the same ones.

A photograph is turned as its EXIF tag says, transparency lies on white, 16-bit grey is scaled to 8 bits, of an animation the
first frame counts. What no model could take is refused by name: other files under a picture's name, cut ones, bombs, strips.
"""

from __future__ import annotations

import io
import math
import os
import struct
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from seethink.core.errors import UserError
from seethink.core.nouns import Sample
from seethink.core.store import hash_file, hash_text

MAX_PIXELS = 100_000_000  # a decompression bomb, not a photograph
MAX_RATIO = 200  # of the longer side to the shorter: what the image processors of the Qwen family take
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""What makes an image upright, by its EXIF orientation."""
BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, OverflowError, Image.DecompressionBombError)
"""What Pillow raises for a file that is no sound picture."""
PORTABLE = {"PNG": ".png", "JPEG": ".jpg"}  # formats that everything reads
NOT_PICTURES = (
    (b"version https://git-lfs", "is a pointer of Git LFS, not the picture", "Run `git lfs pull` in its folder"),
    (b"<svg", "is an SVG drawing", "Save it as PNG"),
    (b"<?xml", "is XML", "Save the picture as PNG"),
    (b"<", "is a web page, not a picture", "Download the picture itself, or drop the row"),
    (b"{", "is JSON, not a picture", "Download the picture itself, or drop the row"),
    (b"%PDF", "is a PDF", "Save the page as PNG"),
    (b"data:", "is the text of a data URL", "Decode it to a picture file"),
    (b"\x1f\x8b", "is compressed with gzip", "Unpack it with gunzip"),
    (b"PK\x03\x04", "is a ZIP archive or an office document", "Unpack it, or save the picture as PNG"),
)  # how a file begins, what it then is, what to do
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # MAX_PIXELS says it by row


def open_image(path: str, where: object = "") -> Image.Image:
    """RGB image as every model sees it, decoded to the last pixel. Raises UserError for what cannot be one."""
    with _opened(path, where) as image:
        return _rgb(image)


def image_size(path: str, where: object = "") -> tuple[int, int]:
    """(width, height) of `open_image`, from the header alone. Raises UserError for what cannot be a picture."""
    with _opened(path, where) as image:
        return _upright_size(image)


def check_image(path: str, where: object = "") -> tuple[int, int]:
    """(width, height) of `open_image`, after decoding to the last pixel; JPEG in an eighth of the size, which is faster.

    Raises UserError for what cannot be a picture.
    """
    with _opened(path, where) as image:
        size = _upright_size(image)
        if image.format == "JPEG":
            image.draft(None, (max(1, image.width // 8), max(1, image.height // 8)))
            image.load()
        else:
            _rgb(image)
        return size


def fitted(size: tuple[int, int], least: int | None, most: int | None) -> tuple[int, int]:
    """The (width, height) of this shape that has `least` to `most` pixels: the size itself, or the nearest that has."""
    width, height = size
    if most and width * height > most:
        scale = math.sqrt(most / (width * height))
        width, height = (max(1, math.floor(side * scale)) for side in size)
        return (min(width, most // height), height) if width >= height else (width, min(height, most // width))
    if least and width * height < least:
        scale = math.sqrt(least / (width * height))
        width, height = (math.ceil(side * scale) for side in size)
    return width, height


def portable(path: str, where: object = "") -> tuple[bytes, str]:
    """(bytes, .png or .jpg): the file as it is where any reader makes our pixels of it, else our pixels as PNG.

    Decoded in any case. Raises UserError for what cannot be a picture.
    """
    with _opened(path, where) as image:
        if _plain(image):
            image.load()
            return Path(path).read_bytes(), PORTABLE[str(image.format)]
        png = io.BytesIO()
        _rgb(image).save(png, "PNG")
        return png.getvalue(), ".png"


def portable_hash(path: str) -> str:
    """Content hash of what `portable` gives, from file and header alone."""
    with _opened(path, "") as image:
        return image_hash(path) if _plain(image) else f"{image_hash(path)}-pixels"


_hashes: dict[str, tuple[str, str]] = {}
"""Path -> (state of the file, its hash): a run needs it several times, and pictures are many and large."""


def image_hash(path: str) -> str:
    """Content hash of an image file."""
    try:
        state = picture_state(path)
        known = _hashes.get(path)
        if known is None or known[0] != state:
            known = _hashes[path] = (state, hash_file(path))
        return known[1]
    except OSError as error:
        raise _unreadable(path, "", error) from None


def picture_state(path: str) -> str:
    """What differs after a file was written again: its size and the times of its changes. Raises OSError for none."""
    status = os.stat(path)
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def know_pictures(known: dict[str, tuple[str, str]]) -> None:
    """Take path -> (state, hash) from an earlier process; a file whose state is another one is read again."""
    _hashes.update(known)


def hash_pictures(samples: Sequence[Sample]) -> str:
    """Content hash of the pictures of samples, in order: a file of samples tells only their names."""
    return hash_text(*(image_hash(image) for sample in samples for image in sample.images))


@contextmanager
def _opened(path: str, where: object) -> Iterator[Image.Image]:
    """The file with its header read. Raises UserError for what cannot be a picture, also while the block decodes it."""
    try:
        with Image.open(path) as image:
            if fault := _size_fault(image):
                raise UserError(f"image {path[-300:]} {fault[0]}", where=where, remedy=fault[1])
            yield image
    except BROKEN as error:
        raise _unreadable(path, where, error) from None


def _size_fault(image: Image.Image) -> tuple[str, str] | None:
    """What is wrong with a picture according to its header, and the remedy."""
    if image.format == "EPS":
        return "is PostScript, which only another program could draw", "Save it as PNG"
    long, short = max(image.size), max(min(image.size), 1)
    if long * short > MAX_PIXELS:
        return f"has {image.width} x {image.height} pixels", "Shrink it"
    if long > MAX_RATIO * short:
        what = f"is {long / short:.0f} times as long as it is wide ({image.width} x {image.height})"
        return what, f"Cut it, or drop the row: models take up to {MAX_RATIO}"
    if image.mode == "F" or image.mode == "I" and image.format not in ("PNG", "PPM"):
        return "has 32-bit pixels, whose scale nobody knows", "Save it with 8 bits"
    return None


def _unreadable(path: str, where: object, error: BaseException) -> UserError:
    """What to say of a file that is no sound picture."""
    reason = "no known kind of picture" if isinstance(error, UnidentifiedImageError) else error
    what, remedy = f"cannot be read ({reason})", "Replace the file or drop the row"
    try:
        with open(path, "rb") as f:
            start = f.read(512).lstrip(b"\xef\xbb\xbf \t\r\n")
        for begin, is_what, do_what in NOT_PICTURES if isinstance(error, OSError) else ():
            if start.lower().startswith(begin.lower()):
                what, remedy = f"cannot be read: it {is_what}", do_what
                break
        if not start:
            what = "cannot be read: it is empty"
        elif isinstance(error, Image.DecompressionBombError):
            what, remedy = "has too many pixels", "Shrink it"
    except FileNotFoundError:
        what, remedy = "does not exist", "Fix the path or drop the row"
    except (OSError, ValueError) as failed:
        what = f"cannot be read ({getattr(failed, 'strerror', None) or failed})"
    return UserError(f"image {path[-300:]} {what}", where=where, remedy=remedy)


def _orientation(image: Image.Image) -> int:
    """As EXIF has it, 1 to 8; a tag block that cannot be read says nothing."""
    try:
        return image.getexif().get(0x0112, 1)
    except BROKEN:
        return 1


def _upright_size(image: Image.Image) -> tuple[int, int]:
    if image.format == "TIFF":  # whose size Pillow has turned already
        return image.size
    return (image.height, image.width) if _orientation(image) in (5, 6, 7, 8) else image.size


def _plain(image: Image.Image) -> bool:
    """Whether the file itself shows our pixels to any reader: 8 bits, opaque, upright, still."""
    deep = any("16" in str(tile[3]) for tile in getattr(image, "tile", ()))
    opaque = image.mode in ("1", "L", "P", "RGB") and not image.has_transparency_data
    upright = _orientation(image) not in TURNS
    return image.format in PORTABLE and opaque and upright and not deep and getattr(image, "n_frames", 1) == 1


def _rgb(image: Image.Image) -> Image.Image:
    """The first frame as RGB of 8 bits: turned upright, on white."""
    image.load()
    if (turn := TURNS.get(_orientation(image))) is not None:
        image = image.transpose(turn)
    if image.mode.startswith("I"):
        image = _scaled(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def _scaled(image: Image.Image) -> Image.Image:
    """16-bit grey as 8-bit grey, the transparent value as white."""
    import numpy as np  # here: help of every verb imports this file

    values = np.asarray(image).astype(np.int64)
    grey = ((values.clip(0, 65535) + 128) // 257).astype(np.uint8)
    if isinstance(clear := image.info.get("transparency"), int):
        grey[values == clear] = 255
    return Image.fromarray(grey)
