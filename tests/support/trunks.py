"""Small trunks for tests."""

import torch
from torch import nn

from models.backbones.i3d import I3D
from models.backbones.initialisation import seed_i3d


def uneven_i3d(modality: str, eps: float, width: float) -> I3D:
    """A narrow I3D whose batch norms do something: variances near 0.01, where eps matters."""
    i3d = I3D(modality, eps, width)
    seed_i3d(i3d, 0)
    generator = torch.Generator().manual_seed(1)
    for module in i3d.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_var *= 0.01 / module.running_var.mean()
            module.weight.data = 0.1 * (1 + 0.2 * torch.randn(module.weight.shape, generator=generator))
            module.bias.data = 0.2 * torch.randn(module.bias.shape, generator=generator)
    return i3d.eval()
