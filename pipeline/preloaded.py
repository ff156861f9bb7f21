"""Imported by the process that all tasks are forked from: the code that it has read here tasks need not read again.

The one module that does something when it is imported, since that is all that such a process does.
"""

from pipeline.graph import STAGES
from pipeline.key import code_digest

DIGESTS = {stage.__name__: code_digest(stage.recipe) for stage in STAGES}
