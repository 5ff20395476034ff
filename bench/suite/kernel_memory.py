"""The kernel's own paging, to compare with: a memory cgroup, and a swap file where pager-anon has its own."""

import os
import pathlib
import tempfile

from .measure import Failed, output_of

SWAP_DIRECTORY = "/var/tmp"  # pager-anon's default
NAME = "vm-bench"


def missing():
    """What the comparison lacks on this machine, in one line; None where it has all."""
    if os.geteuid() != 0:
        return "memory cgroups and swap files need root"
    if _memory_controller() is None:
        return "no cgroup v1 hierarchy with the memory controller is mounted (/proc/self/mounts)"
    if not os.path.exists("/proc/swaps"):
        return "the kernel has no swap (/proc/swaps)"
    return None


def _memory_controller():
    """This process's own group of the memory controller."""
    root = None
    for line in pathlib.Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        _, where, kind, options = line.split()[:4]
        if kind == "cgroup" and "memory" in options.split(","):
            root = where
    if root is None:
        return None
    for line in pathlib.Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return pathlib.Path(root + path)
    return None


def drop_caches():
    """What the host has of files, swap files among them, comes from the disk again."""
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("1\n", encoding="ascii")


class Group:
    """A memory cgroup: what is run in it, files' pages included, has so many bytes."""

    def __init__(self, limit):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix=f"{NAME}-", dir=_memory_controller()))
        try:
            (self.path / "memory.limit_in_bytes").write_text(str(limit), encoding="ascii")
        except OSError as error:
            self.close()
            raise Failed(f"{self.path}: a limit of {limit} bytes: {error}") from error

    def enter(self):
        """For Popen's preexec_fn: the new process and all that it starts."""
        (self.path / "cgroup.procs").write_text(str(os.getpid()), encoding="ascii")

    def figure(self, name):
        return int((self.path / f"memory.{name}").read_text(encoding="ascii"))

    def close(self):
        self.path.rmdir()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()


class Swap:
    """A swap file of the kernel's, for as long as it lives."""

    def __init__(self, size):
        descriptor, self.file = tempfile.mkstemp(prefix=f"{NAME}-swap-", dir=SWAP_DIRECTORY)  # 0600
        try:
            # Without holes, which the kernel does not swap to.
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            os.unlink(self.file)
            raise Failed(f"{self.file}: {size} bytes: {error}") from error
        finally:
            os.close(descriptor)
        try:
            output_of(["mkswap", self.file])
            output_of(["swapon", self.file])
        except BaseException:
            os.unlink(self.file)
            raise

    def close(self):
        try:
            output_of(["swapoff", self.file])
        finally:
            os.unlink(self.file)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()
