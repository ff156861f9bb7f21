"""Letterboxing: mapping a frame of any size into a square, and back. Only this module computes this geometry."""

from dataclasses import dataclass
from math import floor

import cv2
import numpy as np
from jaxtyping import Float32, UInt8


@dataclass(frozen=True)
class Letterbox:
    """Mapping of a `height` x `width` frame into a `size` x `size` square: scaled to fit, centred, padded with zeros.

    The scale is min(size / height, size / width), so smaller frames are enlarged; the resized sides are rounded. If the
    two margins differ, the upper or left one is smaller (the inverse of ACGA util/tool.py: resize_and_crop).
    Raises ImpossibleLetterbox."""

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
        """Pixels of the square per pixel of the frame."""
        return min(self.size / self.height, self.size / self.width)

    @property
    def resized_height(self) -> int:
        """Height of the resized frame in the square."""
        return round(self.height * self.scale)

    @property
    def resized_width(self) -> int:
        """Width of the resized frame in the square."""
        return round(self.width * self.scale)

    @property
    def top(self) -> int:
        """Number of padding rows above the frame."""
        return (self.size - self.resized_height) // 2

    @property
    def left(self) -> int:
        """Number of padding columns to the left of the frame."""
        return (self.size - self.resized_width) // 2

    def image(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "s s 3"]:
        """Return the frame in the square, resized bilinearly and padded with black. Raises WrongSize."""
        return self._framed(image, cv2.INTER_LINEAR)

    def mask(self, mask: UInt8[np.ndarray, "h w"]) -> UInt8[np.ndarray, "s s"]:
        """Return the mask in the square, resized by nearest neighbour and padded with 0. Raises WrongSize."""
        return self._framed(mask, cv2.INTER_NEAREST_EXACT)  # INTER_NEAREST is shifted by half a pixel

    def restore(self, mask: UInt8[np.ndarray, "s s"]) -> UInt8[np.ndarray, "h w"]:
        """Map a mask of the square back to the frame's size like the authors' evaluator: resize the whole square
        bilinearly, with rounding, then crop the centre (ACGA util/tool.py: resize_and_crop). Raises WrongSize."""
        self._expect(mask, self.size, self.size)
        scale = max(self.height / self.size, self.width / self.size)
        side = round(self.size * scale)
        top, left = floor(side - self.height) // 2, floor(side - self.width) // 2
        resized = cv2.resize(mask, (side, side), interpolation=cv2.INTER_LINEAR)
        return np.ascontiguousarray(resized[top : top + self.height, left : left + self.width])

    def crop_resize(self, response: Float32[np.ndarray, "s s"]) -> Float32[np.ndarray, "h w"]:
        """Map values of the square to the frame's size: crop the margins, then resize bilinearly. Raises WrongSize."""
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
    """Raised if no letterbox exists for the given sizes."""


class WrongSize(ValueError):
    """Raised if an image does not have the size for which the letterbox was made."""
