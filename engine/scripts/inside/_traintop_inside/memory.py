"""What is held: parameters, gradients and the optimizer's states, found through the optimizer; and the allocator's."""


def held_by(torch, optimizer):
    """Bytes of an optimizer's parameters, of their gradients, and of its states on the same kinds of device."""
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    kinds = {each.device.type for each in parameters}
    states = (each for state in list(optimizer.state.values()) for each in _tensors(torch, state, 0))
    return {
        "weights": _bytes(parameters),
        "gradients": _bytes([each.grad for each in parameters if each.grad is not None]),
        "optimizer": _bytes([each for each in states if each.device.type in kinds]),
    }


def frozen(module, trained):
    """Bytes of a module's parameters and buffers that are none of `trained`."""
    known = {id(each) for each in trained}
    return _bytes([each for each in (*module.parameters(), *module.buffers()) if id(each) not in known])


def of_allocator(torch):
    """The caching allocator's numbers for the current device, in bytes; empty without CUDA."""
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


def _bytes(tensors):
    """Of the local parts, each storage once."""
    seen = {}
    for each in tensors:
        local = each.to_local() if hasattr(each, "to_local") else each
        try:
            storage = local.untyped_storage()
            seen[storage.data_ptr() or id(local)] = storage.nbytes()
        except (RuntimeError, NotImplementedError):  # none of its own, as on meta
            seen[id(local)] = local.numel() * local.element_size()
    return sum(seen.values())


def _tensors(torch, value, depth):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict) and depth < 3:
        for each in value.values():
            yield from _tensors(torch, each, depth + 1)
    elif isinstance(value, (list, tuple)) and depth < 3:
        for each in value:
            yield from _tensors(torch, each, depth + 1)
