"""Images: opened once, checked fully, hashed by content."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from PIL import ExifTags, Image, UnidentifiedImageError

from seethink.core.errors import UserError
from seethink.core.nouns import Sample
from seethink.core.store import hash_file, hash_text

MAX_PIXELS = 100_000_000  # a decompression bomb, not a photograph
SUFFIXES = {"PNG": ".png", "JPEG": ".jpg", "WEBP": ".webp"}  # formats that every reader of pictures knows


def open_image(path: str, where: object = "") -> Image.Image:
    """RGB image, decoded to the last pixel. Raises UserError for a missing, broken or huge file."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise UserError(
                    f"image {path} has {image.width} x {image.height} pixels", where=where, remedy="Shrink it"
                )
            return image.convert("RGB")
    except FileNotFoundError:
        raise UserError(f"image {path} does not exist", where=where, remedy="Fix the path or drop the row") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(
            f"image {path} cannot be read ({error})", where=where, remedy="Replace the file or drop the row"
        ) from None


def portable(path: str, where: object = "") -> tuple[bytes, str]:
    """(bytes, suffix) of a picture that every reader shows as `open_image` does: its file, or a PNG of those pixels.

    Raises UserError for what is no picture, so that nothing else is ever copied in its place.
    """
    image = open_image(path, where)
    with Image.open(path) as file:
        upright = file.getexif().get(ExifTags.Base.Orientation, 1) == 1
        plain = upright and file.mode in ("RGB", "L") and "transparency" not in file.info
        suffix = SUFFIXES.get(file.format or "") if plain and getattr(file, "n_frames", 1) == 1 else None
    if suffix:
        return Path(path).read_bytes(), suffix
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue(), ".png"


def hash_pictures(samples: Sequence[Sample]) -> str:
    """Content hash of the pictures of samples, in order: a file of samples tells only their names."""
    return hash_text(*(image_hash(image) for sample in samples for image in sample.images))


def image_hash(path: str) -> str:
    """Content hash of an image file."""
    try:
        return hash_file(Path(path))
    except FileNotFoundError:
        raise UserError(f"image {path} does not exist", remedy="Fix the path or drop the row") from None
