"""What is held: parameters, gradients and the optimizers' states; and what the caching allocator says."""

from _traintop_inside.optimizers import parameters_of


def weights(optimizers):
    """Bytes of what they train."""
    return _bytes(_all(optimizers))


def gradients(optimizers):
    """Bytes of the gradients that are there."""
    return _bytes(each.grad for each in _all(optimizers) if each.grad is not None)


def states(torch, optimizers):
    """Bytes of their states, as far as they are on the kinds of device that the parameters are on."""
    kinds = {each.device.type for each in _all(optimizers)}
    held = (each for one in optimizers for state in list(one.state.values()) for each in _tensors(torch, state, 3))
    return _bytes(each for each in held if each.device.type in kinds)


def frozen(module, trained):
    """Bytes of a module's parameters and buffers that are none of `trained`."""
    known = {id(each) for each in trained}
    return _bytes(each for each in (*module.parameters(), *module.buffers()) if id(each) not in known)


def of_allocator(torch):
    """The caching allocator's numbers for the current device; empty without CUDA."""
    if not torch.cuda.is_initialized():
        return {}
    stats = torch.cuda.memory_stats_as_nested_dict()
    size = {name: stats.get(f"{name}_bytes", {}).get("all", {}) for name in ("allocated", "reserved")}
    return {
        "allocated": size["allocated"].get("current"),
        "reserved": size["reserved"].get("current"),
        "peak_allocated": size["allocated"].get("peak"),
        "peak_reserved": size["reserved"].get("peak"),
        "alloc_retries": stats.get("num_alloc_retries"),
    }


def device_of(torch):
    """The CUDA device of this process; empty without one."""
    if not torch.cuda.is_initialized():
        return {}
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    uuid = getattr(properties, "uuid", None)
    return {"name": properties.name, "total": properties.total_memory, "uuid": None if uuid is None else f"GPU-{uuid}"}


def _all(optimizers):
    return [each for one in optimizers for each in parameters_of(one)]


def _bytes(tensors):
    """Each storage once: several tensors may lie in one."""
    seen = {}
    for tensor in tensors:
        for each in _plain(tensor):
            try:
                storage = each.untyped_storage()
                seen[storage.data_ptr() or id(each)] = storage.nbytes()
            except (RuntimeError, NotImplementedError):  # none of its own
                seen[id(each)] = each.numel() * each.element_size()
    return sum(seen.values())


def _plain(tensor):
    """What it is made of: the local part of one that is spread over processes, the parts of one that is quantised."""
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is None:
        yield tensor
    else:
        parts = (getattr(tensor, name) for name in flatten()[0])
        for part in parts:
            if hasattr(part, "untyped_storage"):  # the processes that it is spread over are no part that is held
                yield from _plain(part)


def _tensors(torch, value, depth):
    if isinstance(value, torch.Tensor):
        yield value
    elif depth and isinstance(value, (dict, list, tuple)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _tensors(torch, each, depth - 1)
