"""Characters drawn with many fonts: the font is the class, so that classes never seen in training are plenty."""

from __future__ import annotations

import os
import string
from pathlib import Path

import numpy as np

from metricgrad.errors import MetricgradError

DEBIAN = Path("/usr/share/fonts/truetype/aenigma")
VARIABLE = "METRICGRAD_GLYPHS"
CHARACTERS = string.digits + string.ascii_uppercase + string.ascii_lowercase
SIZE = 28
FEWEST = 20
REMEDY = (
    f"run `apt-get install fonts-aenigma`, or set {VARIABLE} to a folder of .ttf or .otf fonts, which are drawn with "
    "Pillow, or to an .npz file with X (N, 28, 28) uint8, y (N,) characters and font (N,)"
)


def read_glyphs(source: str | Path | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images of single characters, which character each shows, and which font drew it.

    Args:
        source: an ``.npz`` file with arrays X, y and font, or a folder whose fonts are drawn. By default the
            environment variable METRICGRAD_GLYPHS, then Debian's package fonts-aenigma.

    Returns:
        ``(N, 28, 28)`` uint8, white on black; ``(N,)`` int64 characters, 0 to 61; ``(N,)`` int64 fonts from 0.

    Raises:
        MetricgradError: where there is neither such a file nor such a folder, or it holds no glyphs.
    """
    path = Path(source or os.environ.get(VARIABLE) or DEBIAN)
    if path.is_dir():
        return draw_fonts(path)
    if not path.exists():
        raise MetricgradError(f"there are no glyphs at {str(path)!r}: {REMEDY}")
    try:
        with np.load(path, allow_pickle=False) as file:
            images, characters, fonts = (file[name] for name in ("X", "y", "font"))
    except (OSError, ValueError, KeyError) as error:
        raise MetricgradError(f"{str(path)!r} cannot be read as glyphs ({error}): {REMEDY}") from error
    if images.ndim != 3 or images.dtype != np.uint8 or not len(images) == len(characters) == len(fonts):
        raise MetricgradError(
            f"{str(path)!r} holds X {images.dtype} {images.shape}, y and font of other lengths: {REMEDY}"
        )
    return images, characters.astype(np.int64), np.unique(fonts, return_inverse=True)[1].astype(np.int64)


def draw_fonts(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the 62 characters with every font below a folder, in alphabetical order of the files.

    Glyphs that come out blank, and repeats of another glyph of the font, are left out; so are fonts with fewer than 20
    glyphs left.
    """
    try:
        from PIL import ImageFont
    except ImportError as error:
        raise MetricgradError("drawing fonts needs Pillow: run `pip install pillow`") from error
    found: list[tuple[np.ndarray, int, int]] = []
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in (".ttf", ".otf"))
    kept = 0
    for file in files:
        try:
            font = ImageFont.truetype(str(file), SIZE - 6)
            drawn = [_draw(character, font) for character in CHARACTERS]
        except OSError:
            continue  # a font that FreeType cannot open is no font
        seen: set[bytes] = set()
        mine = []
        for number, image in enumerate(drawn):
            if image.any() and image.tobytes() not in seen:
                seen.add(image.tobytes())
                mine.append((image, number, kept))
        if len(mine) >= FEWEST:
            found += mine
            kept += 1
    if not found:
        raise MetricgradError(f"{str(folder)!r} holds {len(files)} fonts and no glyphs could be drawn: {REMEDY}")
    images, characters, fonts = zip(*found, strict=True)
    return np.stack(images), np.array(characters, dtype=np.int64), np.array(fonts, dtype=np.int64)


def _draw(character: str, font: object) -> np.ndarray:
    """One character in the middle of 28 x 28 pixels, scaled down where it is larger."""
    from PIL import Image, ImageDraw

    left, top, right, bottom = font.getbbox(character)  # type: ignore[attr-defined]  # Pillow's FreeTypeFont
    wide, high = max(1, int(right - left)), max(1, int(bottom - top))
    side = max(wide, high, SIZE - 4)
    image = Image.new("L", (side + 4, side + 4))
    place = ((side + 4 - wide) // 2 - left, (side + 4 - high) // 2 - top)
    ImageDraw.Draw(image).text(place, character, fill=255, font=font)  # type: ignore[arg-type]
    return np.asarray(image.resize((SIZE, SIZE)), dtype=np.uint8)
