"""The spatial coordinates of each cell, as eight channels (paper section 3.2; the authors' `util/tool.py`)."""

import torch
from jaxtyping import Float
from torch import Tensor

CHANNELS = 8


def coordinates(
    height: int, width: int, device: torch.device | None = None, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "8 h w"]:
    """Return xmin, ymin, xmax, ymax, x centre, y centre, 1/width and 1/height of each cell; positions in [-1, 1]."""
    lefts = torch.arange(width, device=device, dtype=torch.float64) * 2 / width - 1
    tops = torch.arange(height, device=device, dtype=torch.float64) * 2 / height - 1
    top, left = torch.meshgrid(tops, lefts, indexing="ij")
    right, bottom = left + 2 / width, top + 2 / height
    size_x, size_y = torch.full_like(left, 1 / width), torch.full_like(top, 1 / height)
    channels = (left, top, right, bottom, (left + right) / 2, (top + bottom) / 2, size_x, size_y)
    return torch.stack(channels).to(dtype)
