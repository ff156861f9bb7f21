"""A module that the forkserver imports to compute the code digests once; tasks forked from it need not read the code.

It is the only module that does work when it is imported, since a forkserver can only import modules.
"""

from pipeline.engine.key import code_digest
from pipeline.graph import STAGES

DIGESTS = {stage.__name__: code_digest(stage.implementation) for stage in STAGES}
