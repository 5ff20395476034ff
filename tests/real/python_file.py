"""Works on a mapped file of 256 MiB in the current directory and prints what it sees."""

import hashlib
import mmap
import os

MIB = 1 << 20
SIZE = 256 * MIB
PATH = "data"


def line(number):
    return b"line %09d of the file\n" % number


def make_file():
    block = b"".join(line(i) for i in range(1 << 15))
    with open(PATH, "wb") as file:
        left = SIZE
        while left:
            left -= file.write(block[:left])


def digest(mapping):
    sha = hashlib.sha256()
    for at in range(0, len(mapping), MIB):
        sha.update(mapping[at : at + MIB])
    return sha.hexdigest()


def expect_error(kind, what, action):
    try:
        action()
    except kind as error:
        print(what, type(error).__name__, error)
    else:
        print(what, "is no error")


def read_all():
    with open(PATH, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as m:
        print("size", m.size(), "digest", digest(m))
        print("find", m.find(b"000012345"), m.rfind(b"000000000"), m.find(b"no such thing", -MIB))
        m.seek(SIZE - 30)
        print("tail", m.read())
        m.seek(0)
        print("lines", m.readline(), m.readline(), m[-1], m[100:200:7])
        expect_error(TypeError, "write to ACCESS_READ:", lambda: m.__setitem__(0, 1))


def write_and_flush():
    with open(PATH, "r+b") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_WRITE) as m:
        for at in range(0, SIZE, 5 * MIB):
            m[at : at + 8] = b"WRITTEN%d" % (at // MIB % 10)
        m.move(3 * MIB, 64 * MIB, 2 * MIB + 17)
        m.seek(SIZE - 4)
        m.write(b"last")
        expect_error(ValueError, "write past the end:", lambda: m.write(b"x"))
        m.flush(0, MIB)
        m.flush()
        with open(PATH, "rb") as other:
            other.seek(5 * MIB)
            print("read(2) after flush:", other.read(8))
            other.seek(SIZE - 4)
            print("read(2) after flush:", other.read(8))
        print("written digest", digest(m))


def resize():
    with open(PATH, "r+b") as file:
        m = mmap.mmap(file.fileno(), 0)
        m.resize(SIZE + 3 * MIB)
        print("grown", len(m), os.fstat(file.fileno()).st_size, m[SIZE - 4 : SIZE + 4])
        m[SIZE:] = bytes([7]) * (3 * MIB)
        m.flush()
        m.resize(SIZE // 2 + 1000)
        print("shrunk", len(m), os.fstat(file.fileno()).st_size, m[-3:])
        m[-3:] = b"end"
        m.close()
        expect_error(ValueError, "closed:", lambda: m[0])
        print("file ends", os.pread(file.fileno(), 3, SIZE // 2 + 997))


def copy_on_write():
    with open(PATH, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) as m:
        for at in range(0, len(m), MIB):
            m[at] = 255
        print("copy digest", digest(m))
        file.seek(0)
        print("file keeps", file.read(8))
        expect_error(TypeError, "resize of ACCESS_COPY:", lambda: m.resize(MIB))


def part_at_offset():
    with open(PATH, "r+b") as file:
        with mmap.mmap(file.fileno(), 70000, offset=mmap.ALLOCATIONGRANULARITY * 9) as m:
            print("part", hashlib.sha256(m).hexdigest())
            m[69999] = 33
        print("part written", os.pread(file.fileno(), 2, mmap.ALLOCATIONGRANULARITY * 9 + 69998))
        expect_error(ValueError, "too long:", lambda: mmap.mmap(file.fileno(), SIZE))


make_file()
read_all()
write_and_flush()
resize()
copy_on_write()
part_at_offset()
with open(PATH, "rb") as result:
    print("file", hashlib.sha256(result.read()).hexdigest())
