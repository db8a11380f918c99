"""Which file system holds a path, and whether it is a network's."""

from __future__ import annotations

import re
from pathlib import Path

_NETWORK = frozenset(
    {"9p", "acfs", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fhgfs", "gfs", "gfs2", "glusterfs", "gpfs"}
    | {"lustre", "mmfs", "ncpfs", "nfs", "nfs4", "ocfs2", "orangefs", "panfs", "prl_fs", "pvfs2", "smb", "smb2"}
    | {"smb3", "smbfs", "vboxsf", "virtiofs", "vmhgfs", "wekafs"}
)
"""File system types whose memory maps are not shared between all hosts that mount them."""

_LOCAL_FUSE = frozenset(("fuseblk", "fuse.fuse-overlayfs", "fuse.mergerfs", "fuse.ntfs-3g", "fuse.exfat"))
"""FUSE file systems over a local disk; every other one (sshfs, gcsfuse, s3fs, ...) counts as a network."""


def mount_type(mountinfo: str, path: str) -> str | None:
    """The file system type of an absolute, resolved `path`, from the text of `/proc/self/mountinfo`.

    The mount point that is the longest prefix wins; of two on one point the later, which hides the other.
    """
    best, found = -1, None
    for line in mountinfo.splitlines():
        mount, separator, source = line.partition(
            " - "
        )  # https://man7.org/linux/man-pages/man5/proc_pid_mountinfo.5.html
        fields = mount.split(" ")
        if not separator or len(fields) < 5:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[4])
        inside = path == point or path.startswith(point if point.endswith("/") else point + "/")
        if inside and len(point) >= best:
            best, found = len(point), source.split(" ")[0]
    return found


def is_network_type(kind: str | None) -> bool:
    """Whether several hosts may mount a file system of this type without sharing memory maps."""
    return kind is not None and (kind in _NETWORK or (kind.startswith("fuse") and kind not in _LOCAL_FUSE))


def file_system_of(path: Path) -> tuple[str | None, bool]:
    """(type, whether it is a network's) of the file system that holds `path`; (None, False) where nobody says."""
    try:
        mountinfo = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="surrogateescape")
        resolved = str(path.expanduser().resolve())
    except (OSError, RuntimeError):
        return None, False
    kind = mount_type(mountinfo, resolved)
    return kind, is_network_type(kind)
