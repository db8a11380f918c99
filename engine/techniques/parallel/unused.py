"""Whether some of what is trained takes no part in a forward, such as a head that the task does not use."""

from __future__ import annotations

import logging

import torch

from engine.techniques.preloading import Batch

log = logging.getLogger("traintop")

FEW = 8
"""Tokens of the trial: which weights it reaches does not depend on how many there are."""


def leaves_out(model: torch.nn.Module, batch: Batch) -> bool:
    """Whether the loss of a batch of one sample does not depend on all that is trained; True where that is not known.

    Runs the model once, on the host. The random generators are left as they were.
    """
    few = {name: tensor[:, :FEW] if tensor.dim() > 1 else tensor for name, tensor in batch.items()}
    for name in few.keys() & {"start_positions", "end_positions"}:
        few[name] = torch.zeros_like(few[name])
    try:
        with torch.random.fork_rng([]):
            loss = model(**few).loss
    except Exception:  # it may want more tokens, or a GPU's kernel
        log.info("which weights take part in a forward is not known", exc_info=True)
        return True
    reached = _leaves(loss.grad_fn)
    return any(parameter.requires_grad and id(parameter) not in reached for parameter in model.parameters())


def _leaves(node: torch.autograd.graph.Node | None) -> set[int]:
    """The leaves of an autograd graph, by id."""
    seen, found, ahead = set(), set(), [node]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None:
            found.add(id(variable))
        ahead += [following for following, _ in node.next_functions]
    return found
