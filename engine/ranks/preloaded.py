"""What the fork server imports before it forks the first rank, so that the ranks begin with all of it.

Nothing here computes or asks for a GPU: a process that has started CUDA cannot be forked. What cannot be imported is
told by the rank that wants it.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import logging
import os

_MODULES = (
    "torch._dynamo",
    "engine.ranks.rank",
    "engine.ranks.heart",
    "engine.devices.cuda",
    "engine.devices.virtual",
    "engine.techniques.parallel.ddp",
    "engine.techniques.parallel.fsdp",
    "engine.techniques.parallel.group",
    "engine.techniques.parallel.several",
    "engine.techniques.parallel.zero1",
    "engine.training.run",
    "engine.workloads.kinds.dummy",
    "transformers.models.auto.modeling_auto",
    "transformers.models.bert.modeling_bert",
    "transformers.models.gpt2.modeling_gpt2",
    "transformers.models.llama.modeling_llama",
    "torch.profiler._cupti_monitor",
)


def _import_all() -> None:
    from engine.process.imports import import_transformers
    from engine.training.run import quiet_libraries

    import_transformers()
    quiet_libraries()
    for module in _MODULES:
        importlib.import_module(module)


try:
    _import_all()
except Exception:
    logging.getLogger("traintop").exception("the fork server of ranks lacks something")
gc.freeze()  # no rank looks through it for garbage, which would copy every page of it
atexit.register(os._exit, 0)  # PyTorch's own end takes the server seconds, and it has nothing to put away
