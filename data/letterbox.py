"""The letterbox: a frame of any size in a square, and the ways back. The one place that knows this geometry."""

from dataclasses import dataclass
from math import floor

import cv2
import numpy as np
from jaxtyping import Float32, UInt8


@dataclass(frozen=True)
class Letterbox:
    """A `height` x `width` frame, scaled to fit and centred in a `size` x `size` square; zero outside.

    scale = min(size / height, size / width), smaller frames are enlarged; sizes are rounded; of two unequal margins the
    upper or left one is the smaller (the inverse of ACGA util/tool.py: resize_and_crop). Raises ImpossibleLetterbox."""

    height: int
    width: int
    size: int

    def __post_init__(self) -> None:
        if min(self.height, self.width, self.size) < 1:
            raise ImpossibleLetterbox(f"{self._name}: sizes must be positive")
        if min(self.resized_height, self.resized_width) < 1:
            raise ImpossibleLetterbox(f"{self._name}: nothing would be left of it")

    @property
    def scale(self) -> float:
        """Pixels of the square a pixel of the frame."""
        return min(self.size / self.height, self.size / self.width)

    @property
    def resized_height(self) -> int:
        """Rows of the square that the frame takes."""
        return round(self.height * self.scale)

    @property
    def resized_width(self) -> int:
        """Columns of the square that the frame takes."""
        return round(self.width * self.scale)

    @property
    def top(self) -> int:
        """Empty rows above the frame."""
        return (self.size - self.resized_height) // 2

    @property
    def left(self) -> int:
        """Empty columns to the left of the frame."""
        return (self.size - self.resized_width) // 2

    def image(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "s s 3"]:
        """The frame in the square, bilinear, black outside. Raises WrongSize."""
        return self._framed(image, cv2.INTER_LINEAR)

    def mask(self, mask: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "s s"]:
        """The mask in the square, nearest neighbour of pixel centres, 0 outside. Raises WrongSize."""
        return self._framed(mask, cv2.INTER_NEAREST_EXACT)  # INTER_NEAREST is half a pixel off the frames

    def restore(self, mask: UInt8[np.ndarray, "s s"]) -> UInt8[np.ndarray, "h w"]:
        """A mask of the square back at the frame's size as the authors' evaluator does it: the whole square is resized
        (bilinear, rounded), then its centre is cut out (ACGA util/tool.py: resize_and_crop). Raises WrongSize."""
        self._expect(mask, self.size, self.size)
        scale = max(self.height / self.size, self.width / self.size)
        side = round(self.size * scale)
        top, left = floor(side - self.height) // 2, floor(side - self.width) // 2
        resized = cv2.resize(mask, (side, side), interpolation=cv2.INTER_LINEAR)
        return np.ascontiguousarray(resized[top : top + self.height, left : left + self.width])

    def crop_resize(self, response: Float32[np.ndarray, "s s"]) -> Float32[np.ndarray, "h w"]:
        """A map of the square at the frame's size: margins cut off, the rest resized, bilinear. Raises WrongSize."""
        self._expect(response, self.size, self.size)
        inside = response[self.top : self.top + self.resized_height, self.left : self.left + self.resized_width]
        resized = cv2.resize(np.ascontiguousarray(inside), (self.width, self.height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(resized, dtype=np.float32)

    @property
    def _name(self) -> str:
        return f"letterbox of {self.height} x {self.width} in {self.size} x {self.size}"

    def _framed(self, image: np.ndarray, interpolation: int) -> np.ndarray:
        self._expect(image, self.height, self.width)
        framed = np.zeros((self.size, self.size, *image.shape[2:]), np.uint8)
        rows, columns = self.resized_height, self.resized_width
        resized = cv2.resize(image, (columns, rows), interpolation=interpolation)
        framed[self.top : self.top + rows, self.left : self.left + columns] = resized
        return framed

    def _expect(self, image: np.ndarray, height: int, width: int) -> None:
        if image.shape[:2] != (height, width):
            found = " x ".join(str(length) for length in image.shape[:2])
            raise WrongSize(f"{self._name}: got {found}, not {height} x {width}")


class ImpossibleLetterbox(ValueError):
    """Sizes that give no letterbox."""


class WrongSize(ValueError):
    """An image of another size than the letterbox was made for."""
