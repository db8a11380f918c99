"""What the fork server imports before it forks the first rank, so that the ranks begin with all of it.

Nothing here computes or asks for a GPU: a process that has started CUDA cannot be forked. What cannot be imported is
told by the rank that wants it.
"""

import gc
import logging

try:
    from engine.process.imports import import_transformers

    import_transformers()
    import engine.ranks.rank
    import engine.training.run

    engine.training.run.quiet_libraries()
except Exception:
    logging.getLogger("traintop").exception("the ranks' fork server lacks something")
gc.freeze()  # no rank looks through it for garbage, which would copy every page of it
