"""Works on 256 MiB of anonymous memory, private and shared, across fork, and prints what it sees."""

import hashlib
import mmap
import os
import sys

MIB = 1 << 20
SIZE = 256 * MIB


def digest(mapping):
    sha = hashlib.sha256()
    for at in range(0, len(mapping), MIB):
        sha.update(mapping[at : at + MIB])
    return sha.hexdigest()


def fill(mapping, salt):
    for at in range(0, SIZE, MIB):
        mapping[at : at + MIB] = bytes([(at // MIB + salt) % 256]) * MIB


def in_child(work):
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        work()
        sys.stdout.flush()
        os._exit(5)
    print("child ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


def write_in_child(mapping):
    print("child sees", digest(mapping))
    for at in range(0, SIZE, 16 * MIB):
        mapping[at : at + 5] = b"child"
    print("child wrote", digest(mapping))


def check(kind, flags):
    with mmap.mmap(-1, SIZE, flags=flags | mmap.MAP_ANONYMOUS) as m:
        print(kind, "fresh", m[0], m[SIZE - 1], m.find(b"\1"))
        fill(m, 1)
        print(kind, "filled", digest(m))
        in_child(lambda: write_in_child(m))
        print(kind, "after the child", digest(m))
        # From a pipe straight into pages that were given back: the kernel itself has the fault.
        m.madvise(mmap.MADV_DONTNEED, 64 * MIB, MIB)
        reader, writer = os.pipe()
        os.write(writer, b"through the pipe" * 512)
        with memoryview(m)[64 * MIB : 64 * MIB + 8192] as view:
            print(kind, "read", os.readv(reader, [view]))
        print(kind, "holds", m[64 * MIB : 64 * MIB + 32])
        print(kind, "end", digest(m))


check("private", mmap.MAP_PRIVATE)
check("shared", mmap.MAP_SHARED)
