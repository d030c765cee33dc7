"""Pictures as a model takes them: read by Pillow, which is only let at the common formats, and within bounds."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from workers.data_sets.data_set import MOST_BYTES, Wanted
from workers.data_sets.labelled import bad_data
from workers.errors import first_line
from workers.examples import Array

if TYPE_CHECKING:
    from PIL.Image import Image

#: None that is read by another program or holds code.
_FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
#: Larger ones are refused unread: a small file can hold an image that fills the memory.
_MOST_PIXELS = 64_000_000
#: Modes by channels.
_MODES = {1: "L", 3: "RGB"}


class UnreadableError(Exception):
    """A picture cannot be read; the message says why."""


@dataclass(frozen=True, kw_only=True)
class ImageInput:
    """The one input of a model that takes pictures."""

    name: str
    dtype: str
    channels: int
    height: int
    width: int
    channels_last: bool
    #: Per channel, of values from 0 to 1.
    mean: Array
    std: Array
    #: The shorter side is brought to this before the middle is cut out.
    resize: int

    @classmethod
    def of(cls, wanted: Wanted, data: str) -> ImageInput:
        """The input of a model.

        Args:
            wanted: what the model takes.
            data: the data set's name, for the sentence.

        Raises:
            AttemptError: it takes no pictures.
        """
        shown = ", ".join(f"{name} {kind} {shape}" for name, (kind, shape) in wanted.inputs.items())
        if len(wanted.inputs) != 1:
            raise bad_data(f"{data} holds images, and the model takes {shown}")
        ((name, (kind, shape)),) = wanted.inputs.items()
        last = len(shape) == 3 and shape[0] not in _MODES
        channels, height, width = (shape[2], shape[0], shape[1]) if last else shape if len(shape) == 3 else (0, 0, 0)
        if channels not in _MODES or not (np.issubdtype(kind, np.floating) or kind == "uint8"):
            raise bad_data(f"{data} holds images, and the model takes no image but {shown}")
        said: Mapping[str, Any] = wanted.image or {}
        mean = np.broadcast_to(np.asarray(said.get("mean", 0.0), np.float32), (channels,))
        std = np.broadcast_to(np.asarray(said.get("std", 1.0), np.float32), (channels,))
        side = min(height, width)
        return cls(
            name=name,
            dtype=kind,
            channels=channels,
            height=height,
            width=width,
            channels_last=last,
            mean=mean,
            std=std,
            # As torchvision's presets do where they do not say otherwise; what is tiny has no margin to give.
            resize=int(said.get("resize") or (round(side * 256 / 224) if side > 64 else side)),
        )

    @property
    def bytes_each(self) -> int:
        """Of one example."""
        return self.channels * self.height * self.width * np.dtype(self.dtype).itemsize

    def read_all(
        self, sources: Iterable[tuple[str, Path | bytes]], count: int, data: str, skipped: list[str]
    ) -> tuple[Array, list[int]]:
        """All pictures that can be read, stacked, and which they are.

        Args:
            sources: what each is called, and its file or its bytes.
            count: how many they are at most.
            data: the data set's name, for the sentence.
            skipped: what cannot be read is added, with the reason.

        Raises:
            AttemptError: so many do not go into memory.
        """
        if count * self.bytes_each > MOST_BYTES:
            raise bad_data(
                f"{data}: {count} images of {self.bytes_each} bytes are more than {MOST_BYTES / 2**30:.0f} GiB; "
                f"take fewer with a limit of at most {MOST_BYTES // self.bytes_each}"
            )
        shape = (
            (self.height, self.width, self.channels) if self.channels_last else (self.channels, self.height, self.width)
        )
        stack = np.empty((count, *shape), self.dtype)
        rows: list[int] = []
        for row, (name, source) in enumerate(sources):
            try:
                stack[len(rows)] = self.read(BytesIO(source) if isinstance(source, bytes) else source)
                rows.append(row)
            except UnreadableError as error:
                skipped.append(f"{name} {error}")
        return stack[: len(rows)], rows

    def read(self, file: Path | BinaryIO) -> Array:
        """One picture, resized, cut and normalised: of the input's shape without a batch.

        Raises:
            UnreadableError: it is damaged, too large, or of another format.
        """
        from PIL import Image, UnidentifiedImageError

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of formats' oddities
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                with Image.open(file, formats=_FORMATS) as image:
                    if image.width * image.height > _MOST_PIXELS:
                        raise UnreadableError(f"has {image.width} x {image.height} pixels")
                    return self.prepared(image.convert(_MODES[self.channels]))
        except UnidentifiedImageError as error:
            raise UnreadableError("is no image of a known format") from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise UnreadableError("has too many pixels") from error
        except (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, OverflowError) as error:
            raise UnreadableError(first_line(error)) from error

    def prepared(self, image: Image) -> Array:
        """A picture in the input's mode, as an array."""
        from PIL.Image import Resampling

        factor = self.resize / min(image.width, image.height)
        size = (max(self.width, round(image.width * factor)), max(self.height, round(image.height * factor)))
        resized = image.resize(size, Resampling.BILINEAR)
        left, top = (size[0] - self.width) // 2, (size[1] - self.height) // 2
        cut = resized.crop((left, top, left + self.width, top + self.height))
        pixels = np.asarray(cut).reshape(self.height, self.width, self.channels)
        if self.dtype != "uint8":
            pixels = ((pixels.astype(np.float32) / 255 - self.mean) / self.std).astype(self.dtype)
        return pixels if self.channels_last else np.ascontiguousarray(pixels.transpose(2, 0, 1))
