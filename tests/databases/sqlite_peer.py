"""sqlite_peer.py write|read PATH MODE NAME SECONDS

One of several processes on one SQLite database, with mmap_size 1 GiB. A writer moves amounts between
accounts and logs rows of its own, and prints the number of each row that is committed. A reader checks
in one snapshot after the other that no amount is lost, that no row is missing or wrong, and that what
it saw once stays.
"""

import random
import sqlite3
import sys
import time

ACCOUNTS = 500


def text_of(name, number):
    source = random.Random(f"{name} {number}")
    return source.randbytes(source.randrange(10, 6000)).hex()


def connect(path, mode):
    connection = sqlite3.connect(path, timeout=60, isolation_level=None)
    connection.execute(f"PRAGMA mmap_size={1 << 30}")
    found = connection.execute(f"PRAGMA journal_mode={mode}").fetchone()[0]
    assert found == mode.lower(), found
    # With a write-ahead log pages go to the database itself again and again while others read it.
    connection.execute("PRAGMA wal_autocheckpoint=4")
    return connection


def make(path, mode):
    connection = connect(path, mode)
    connection.execute("CREATE TABLE account(id INTEGER PRIMARY KEY, amount INTEGER, note TEXT)")
    connection.execute("CREATE TABLE log(name TEXT, number INTEGER, text TEXT, PRIMARY KEY(name, number))")
    connection.execute("BEGIN")
    for i in range(ACCOUNTS):
        connection.execute("INSERT INTO account VALUES(?, 1000, ?)", (i, text_of("account", i)))
    connection.execute("COMMIT")
    connection.close()


def write(path, mode, name, seconds):
    connection = connect(path, mode)
    chosen = random.Random(name)
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        connection.execute("BEGIN IMMEDIATE")
        last = connection.execute("SELECT coalesce(max(number), 0) FROM log WHERE name = ?", (name,)).fetchone()[0]
        assert last == number, f"{name}: row {last} is the last, and {number} was committed"
        number += 1
        connection.execute("INSERT INTO log VALUES(?, ?, ?)", (name, number, text_of(name, number)))
        source, target, amount = chosen.randrange(ACCOUNTS), chosen.randrange(ACCOUNTS), chosen.randrange(50)
        connection.execute("UPDATE account SET amount = amount - ? WHERE id = ?", (amount, source))
        connection.execute("UPDATE account SET amount = amount + ? WHERE id = ?", (amount, target))
        if number % 5 == 0:
            connection.execute("UPDATE account SET note = ? WHERE id = ?", (text_of(name, -number), source))
        connection.execute("COMMIT")
        print(number, flush=True)
        # Others have a turn: SQLite's locks are not fair.
        time.sleep(chosen.random() * 0.01)


def read(path, mode, name, seconds):
    connection = connect(path, mode)
    chosen = random.Random(name)
    end = time.monotonic() + seconds
    known = {}
    snapshots = 0
    while time.monotonic() < end:
        connection.execute("BEGIN")
        total = connection.execute("SELECT sum(amount), count(*) FROM account").fetchone()
        assert total == (1000 * ACCOUNTS, ACCOUNTS), f"{name}: {total}"
        for writer, count, last in connection.execute("SELECT name, count(*), max(number) FROM log GROUP BY name"):
            assert count == last, f"{name}: {count} of {last} rows of {writer}"
            assert last >= known.get(writer, 0), f"{name}: {writer} is back at {last} from {known[writer]}"
            known[writer] = last
        for writer, last in known.items():
            for number in {last, chosen.randrange(1, last + 1)}:
                found = connection.execute("SELECT text FROM log WHERE name = ? AND number = ?", (writer, number)).fetchone()
                assert found == (text_of(writer, number),), f"{name}: row {number} of {writer} is wrong"
        connection.execute("COMMIT")
        snapshots += 1
    print(snapshots, flush=True)


def check(path, mode):
    """Prints how many rows each writer has, when everything is as it has to be."""
    connection = connect(path, mode)
    assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert connection.execute("SELECT sum(amount) FROM account").fetchone()[0] == 1000 * ACCOUNTS
    for name, number, text in connection.execute("SELECT name, number, text FROM log"):
        assert text == text_of(name, number), f"row {number} of {name} is wrong"
    for name, count, last in connection.execute("SELECT name, count(*), max(number) FROM log GROUP BY name"):
        assert count == last
        print(name, count)


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    if what in ("write", "read"):
        rest[3] = float(rest[3])
    {"make": make, "write": write, "read": read, "check": check}[what](*rest)
