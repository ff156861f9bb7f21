"""The public API for other programs: the networks, and the loader of the authors' checkpoint.

    from pipeline.api import ACGA, I3D, load_reference

These names are stable; all other modules may change from one release to the next. Nothing in the project imports this
module.
"""

from models.acga import ACGA
from models.backbones.i3d import I3D
from models.files.checkpoints import load_reference

__all__ = ["ACGA", "I3D", "load_reference"]
