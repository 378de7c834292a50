"""Images: opened once, checked fully, hashed by content."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from seethink.core.errors import UserError
from seethink.core.nouns import Sample
from seethink.core.store import hash_file, hash_text

MAX_PIXELS = 100_000_000  # a decompression bomb, not a photograph


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


def hash_pictures(samples: Sequence[Sample]) -> str:
    """Content hash of the pictures of samples, in order: a file of samples tells only their names."""
    return hash_text(*(image_hash(image) for sample in samples for image in sample.images))


def image_hash(path: str) -> str:
    """Content hash of an image file."""
    try:
        return hash_file(Path(path))
    except FileNotFoundError:
        raise UserError(f"image {path} does not exist", remedy="Fix the path or drop the row") from None
