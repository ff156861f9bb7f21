"""A module that the forkserver imports to compute the code digests once; tasks forked from it need not read the code.

It also configures the tasks' log messages, before Luigi can print any of its own. It is the only module that does work
when it is imported, since a forkserver can only import modules.
"""

from pipeline.engine.key import code_digest
from pipeline.engine.logs import configure_logging
from pipeline.graph import STAGES

configure_logging()
DIGESTS = {stage.__name__: code_digest(stage.implementation) for stage in STAGES}
