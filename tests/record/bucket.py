"""A bucket as hf-mount mounts it, by FUSE: `python tests/record/bucket.py STORE MOUNT`, in the foreground. Needs mfusepy.

A file is written once, from its first byte to its last, and is there when it is closed, whole. No appends, no changes, no
renames, no links, no locks: each that is tried is refused, and stands in STORE.refused. STORE.faults may name an error for
an operation (`{"flush": "ENOSPC"}`), or "half": half of the file arrives, and then the mount is gone.
"""

import ctypes
import errno
import fcntl
import importlib
import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

fuse: Any = importlib.import_module("mfusepy")


class Bucket(fuse.Operations):
    use_ns = True

    def __init__(self, store: Path):
        self.store = store
        self.writing: dict[int, bytearray] = {}
        self.paths: dict[str, int] = {}
        self.last = 0

    def at(self, path: str) -> str:
        return f"{self.store}{path}"

    def fault(self, what: str) -> str:
        try:
            name = json.loads(Path(f"{self.store}.faults").read_text()).get(what, "")
        except OSError:
            return ""
        if name and name != "half":
            raise OSError(getattr(errno, name), name)
        return name

    def refuse(self, what: str) -> Any:
        with open(f"{self.store}.refused", "a") as file:
            file.write(f"{what}\n")
        raise OSError(errno.ENOTSUP, what)

    def getattr(self, path, fh=None):
        self.fault("getattr")
        if path in self.paths:
            return {"st_mode": stat.S_IFREG | 0o644, "st_nlink": 1, "st_size": len(self.writing[self.paths[path]])}
        about = os.lstat(self.at(path))
        return {name: getattr(about, name) for name in ("st_mode", "st_nlink", "st_size", "st_uid", "st_gid")} | {
            name: getattr(about, f"{name}_ns") for name in ("st_mtime", "st_ctime", "st_atime")
        }

    def readdir(self, path, fh):
        self.fault("readdir")
        return [".", "..", *os.listdir(self.at(path)), *(p.rsplit("/", 1)[1] for p in self.paths if p.startswith(path))]

    def create(self, path, mode, fi=None):
        self.fault("create")
        self.last += 1
        self.writing[self.last], self.paths[path] = bytearray(), self.last
        return self.last

    def open(self, path, flags):
        self.fault("open")
        if flags & os.O_APPEND or flags & os.O_ACCMODE == os.O_RDWR:
            self.refuse(f"open {path} with {flags:o}")
        return self.create(path, 0) if flags & os.O_ACCMODE == os.O_WRONLY else 0

    def truncate(self, path, length, fh=None):
        return self.refuse(f"truncate {path}") if length else 0

    def read(self, path, size, offset, fh):
        self.fault("read")
        with open(self.at(path), "rb") as file:
            return os.pread(file.fileno(), size, offset)

    def write(self, path, data, offset, fh):
        self.fault("write")
        if offset != len(self.writing[fh]):
            self.refuse(f"write {path} at {offset}")
        self.writing[fh] += data
        return len(data)

    def flush(self, path, fh):
        if fh not in self.writing or path not in self.paths:
            return 0
        half = self.fault("flush") == "half"
        data = self.writing[fh]
        Path(self.at(path)).write_bytes(data[: len(data) // 2] if half else data)
        if half:
            os._exit(1)
        return 0

    def release(self, path, fh):
        self.writing.pop(fh, None)
        if self.paths.get(path) == fh:
            del self.paths[path]
        return 0

    def fsync(self, path, datasync, fh):
        raise OSError(errno.EINVAL, "fsync")

    def unlink(self, path):
        self.fault("unlink")
        os.unlink(self.at(path))
        return 0

    def mkdir(self, path, mode):
        self.fault("mkdir")
        os.mkdir(self.at(path))
        return 0

    def rmdir(self, path):
        os.rmdir(self.at(path))
        return 0

    def rename(self, old, new):
        self.refuse(f"rename {old}")

    def link(self, target, source):
        self.refuse(f"link {target}")

    def symlink(self, target, source):
        self.refuse(f"symlink {target}")

    def chmod(self, path, mode):
        self.refuse(f"chmod {path}")

    def utimens(self, path, times=None):
        self.refuse(f"utimens {path}")

    def lock(self, path, fh, cmd, lock):
        kind = ctypes.c_short.from_address(ctypes.cast(lock, ctypes.c_void_p).value).value  # of struct flock
        return 0 if kind == fcntl.F_UNLCK else self.refuse(f"lock {path}")  # each close lets go of what nobody holds

    def flock(self, path, fh, op):
        self.refuse(f"flock {path}")

    def statfs(self, path):
        return {"f_bsize": 4096, "f_blocks": 10**9, "f_bavail": 10**9, "f_bfree": 10**9, "f_namemax": 255}


if __name__ == "__main__":
    more = {"allow_other": True} if os.getuid() == 0 else {}
    fuse.FUSE(Bucket(Path(sys.argv[1]).resolve()), sys.argv[2], foreground=True, nothreads=True, **more)
