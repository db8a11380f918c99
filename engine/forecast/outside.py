"""Memory outside the allocator: a context, library images and what the driver keeps; measured, given, or a range."""

from __future__ import annotations

from dataclasses import dataclass

from engine.gpus.catalogue import Gpu
from engine.gpus.contexts import LIBRARIES_SEEN, context_range, driver_range, nccl_most
from engine.gpus.units import MIB
from engine.tracing.stack import Stack


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """Bytes of the context (with what the driver keeps) and of libraries. The range is None where both are known."""

    context: int
    libraries: int
    range: tuple[int, int] | None
    notes: tuple[str, ...]
    """How sure that is; none where it was given."""

    @property
    def total(self) -> int:
        return self.context + self.libraries


def outside_memory(
    gpu: Gpu,
    stack: Stack,
    given_context: int | None,
    given_libraries: int | None,
    beside: int,
    *,
    gpus: int = 1,
    has_nccl: bool = False,
) -> Outside:
    """What is on `gpu` beside the allocator's segments: what was given, else measured, else what was seen elsewhere.

    `beside` is what other processes have there, which counts with the context. With several `gpus` NCCL has buffers
    there too: nobody has measured them, so they are in the range alone, unless the given has them (`has_nccl`).
    """
    context, libraries = stack.outside(gpu)
    context_is_known = given_context is not None or gpu.context_bytes is not None
    libraries_are_known = given_libraries is not None or gpu.library_bytes is not None
    context = context if given_context is None else given_context
    libraries = libraries if given_libraries is None else given_libraries
    contexts, images = (context, context), (libraries, libraries)
    if not context_is_known:
        seen, kept = context_range(gpu, stack.cuda), driver_range(gpu)
        contexts = min(context, seen[0] + kept[0]), max(context, seen[1] + kept[1])
    if not libraries_are_known:
        least, most = LIBRARIES_SEEN
        images = min(libraries, least * MIB), max(libraries, most * MIB)
    is_known = context_is_known and libraries_are_known
    between = None if is_known else (contexts[0] + images[0] + beside, contexts[1] + images[1] + beside)
    notes = []
    if given_context is None or given_libraries is None:
        how = "Assumed, not measured" if between else "As measured on another such card"
        seen_between = f" ({between[0] // MIB} to {between[1] // MIB} MiB in all by what was seen)" if between else ""
        notes.append(
            f"{how}: a CUDA context of {context // MIB} MiB (with what the driver keeps) and {libraries // MIB} MiB of "
            f"libraries{seen_between}; they depend on driver and CUDA version (--context-mib, --library-mib)."
        )
    if gpus > 1 and not has_nccl:
        known = context + libraries + beside
        least, most = between or (known, known)
        more = nccl_most(gpus)
        between = least, most + more
        notes.append(
            f"Not measured: NCCL's own buffers on each GPU, up to {more // MIB} MiB elsewhere, more with NVLink than "
            "with PCIe. They are in the range and not in what is used."
        )
    return Outside(context=context + beside, libraries=libraries, range=between, notes=tuple(notes))
