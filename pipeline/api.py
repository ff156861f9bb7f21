"""What other programs may import: the networks, and the authors' checkpoint.

    from pipeline.api import ACGA, I3D, load_reference

These names stay where they are; everything else may move from one release to the next. Nothing in the project imports
this module.
"""

from models.acga import ACGA
from models.backbones.i3d import I3D
from models.files.checkpoints import load_reference

__all__ = ["ACGA", "I3D", "load_reference"]
