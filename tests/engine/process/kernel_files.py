"""Pieces of `/proc` and `/sys/fs/cgroup` on disk, as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

TICKS_PER_S = 100


def write(folder: Path, **files: str) -> None:
    """Files by name; `__` in a name stands for a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def status(root: Path, cpus: str, name: str = "self") -> None:
    """`/proc/<name>/status` of a process with this affinity."""
    write(root / "proc" / name, status=f"Name:\tpython\nCpus_allowed:\tff\nCpus_allowed_list:\t{cpus}\n")


def stat(root: Path, *cpus: tuple[float, float, float]) -> None:
    """`/proc/stat`: for each processor the seconds that it was busy, idle and stolen."""
    rows = [(int(b * TICKS_PER_S), int(i * TICKS_PER_S), int(s * TICKS_PER_S)) for b, i, s in cpus]
    lines = [f"cpu{n} {busy} 0 0 {idle} 0 0 0 {stolen} 0 0" for n, (busy, idle, stolen) in enumerate(rows)]
    busy, idle, stolen = (sum(column) for column in zip(*rows, strict=True))
    total = f"cpu  {busy} 0 0 {idle} 0 0 0 {stolen} 0 0"
    write(root / "proc", stat="\n".join([total, *lines, "intr 1 2 3", "ctxt 5"]))


def process(root: Path, name: str, seconds: float, *, ended: float = 0.0, children: str = "") -> None:
    """`/proc/<name>/stat` of a process that took these seconds, and its ended children those, and its children."""
    own, gone = int(seconds * TICKS_PER_S), int(ended * TICKS_PER_S)
    fields = f"S 1 1 1 0 -1 0 0 0 0 0 {own} 0 {gone} 0 20 0 9 0"
    write(root / "proc" / name, stat=f"17 (a name) of 2) {fields}\n")
    write(root / "proc" / name / "task" / "17", children=children)
