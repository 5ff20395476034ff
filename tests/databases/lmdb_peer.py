"""lmdb_peer.py write|read|check PATH map|file

One of several processes on one LMDB environment. The writer puts record after record, takes old ones
away, and prints the number of each once its transaction is committed; it ends by being killed. A reader
checks in one snapshot after the other that the records follow one another and hold what they have to.
"""

import random
import sys

import lmdb

KEPT = 3000
MOST_AT_ONCE = 7  # records of a transaction


def key_of(number):
    return b"%012d" % number


def value_of(number):
    source = random.Random(number)
    return source.randbytes(source.randrange(5, 3000))


def open_environment(path, how):
    return lmdb.open(path, map_size=256 << 20, writemap=how == "map", max_dbs=1, metasync=True, sync=True)


def span(transaction):
    with transaction.cursor() as cursor:
        first = int(cursor.key()) if cursor.first() else 0
        last = int(cursor.key()) if cursor.last() else 0
    return first, last


def verify(transaction, numbers):
    for number in numbers:
        assert transaction.get(key_of(number)) == value_of(number), f"record {number} is wrong"


def write(path, how):
    environment = open_environment(path, how)
    while True:
        with environment.begin(write=True) as transaction:
            first, last = span(transaction)
            count = random.randrange(1, MOST_AT_ONCE + 1)
            for number in range(last + 1, last + 1 + count):
                transaction.put(key_of(number), value_of(number))
            for number in range(max(first, 1), last + count - KEPT):
                transaction.delete(key_of(number))
        print(last + count, flush=True)


def read(path, how):
    environment = open_environment(path, how)
    newest = 0
    while True:
        with environment.begin() as transaction:
            first, last = span(transaction)
            # LMDB's readers take the number of the last transaction that was announced, and then one of two
            # pages by it. One that is held up in between finds the next but one there, which is not announced
            # as long as the disk takes; its next snapshot is one transaction older. (Seen without a server.)
            assert last >= newest - MOST_AT_ONCE, f"back at {last} from {newest}"
            newest = max(newest, last)
            if last:
                assert transaction.stat()["entries"] == last - first + 1, "records are missing"
                verify(transaction, {first, last, random.randint(first, last), random.randint(first, last)})
        print(last, flush=True)


def check(path, how):
    """All of it. Prints the last record."""
    environment = open_environment(path, how)
    with environment.begin() as transaction:
        first, last = span(transaction)
        assert transaction.stat()["entries"] == (last - first + 1 if last else 0), "records are missing"
        verify(transaction, range(first, last + 1) if last else ())
    print(last)


if __name__ == "__main__":
    {"write": write, "read": read, "check": check}[sys.argv[1]](*sys.argv[2:])
