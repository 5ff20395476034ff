"""What is measured, and the goal of each: docs/performance.md says how each figure comes about."""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time

from . import kernel_memory
from .measure import Failed, Pair, Server, in_turns, output_of, seconds_of

# Of the measurements of the programs that measure both sides by themselves: goal of the ratio.
GOALS = {
    "anonymous, in order": (0.8, "0.8"),
    "resident file in order: mapped again, against a memfd": (1.1, "1.1"),
    "warm file in order: first mapping, against pread into fresh memory": (1.3, "1.3"),
    "cold file in order": (1.1, "1.1"),
    "cold file at random, MADV_RANDOM": (1.5, "1.5"),
    "dirtying a shared file in order, and msync": (1.2, "1.2"),
    "mmap, touch one page, munmap, 64 KiB": (3, "3, then 1"),
    "mprotect, one page": (3, "3"),
    "mprotect, 1 GiB": (3, "3"),
    "madvise, one page": (3, "3"),
    "madvise, 1 GiB": (3, "3"),
    "mincore, one page": (3, "3"),
    "mincore, 1 GiB": (3, "3"),
    "mlock and munlock, one page": (3, "3"),
    "pread of 4 KiB, nobody maps a file": (1.02, "1.02"),
}
GOAL_OF_LOCKING = (3, "3")  # how much there is to lock depends on the user's limit


def both_sides(bench, program, *options):
    """Of a program that measures both sides in turns, served by vmrun."""
    with tempfile.NamedTemporaryFile(suffix=".json") as result:
        output_of([bench.vmrun, "--", bench.build / "bench" / program, "--json", result.name, *options])
        measured = json.load(result)
    for row in measured["measurements"]:
        goal = GOALS.get(row["name"], (None, ""))
        if row["name"].startswith("mlock and munlock"):
            goal = GOAL_OF_LOCKING
        pair = Pair(row["name"], row["unit"], *goal)
        pair.native, pair.served = row["native_rounds"], row["served_rounds"]
        yield pair


def first_touch(bench):
    size = "64M" if bench.quick else "256M"
    rounds = "3" if bench.quick else "7"
    yield from both_sides(bench, "first_touch", "--size", size, "--rounds", rounds)


def map_calls(bench):
    yield from both_sides(bench, "map_calls", "--rounds", "3" if bench.quick else "7")


def mapped_files(bench):
    size = "32M" if bench.quick else "128M"
    yield from both_sides(bench, "mapped_files", "--size", size, "--rounds", "3" if bench.quick else "5")


def cold_files(bench):
    size = "32M" if bench.quick else "128M"
    yield from both_sides(bench, "cold_files", "--size", size, "--rounds", "3" if bench.quick else "9")


def file_calls(bench):
    yield from both_sides(bench, "file_calls", "--rounds", "11" if bench.quick else "31")


def random_faults(bench):
    program = str(bench.build / "bench/bare_faults")
    for where, pinned in (("one CPU", ["taskset", "-c", "0"]), ("free", [])):
        def bare(*arguments, pinned=pinned):
            return float(output_of([*pinned, program, *arguments]))

        def served(pinned=pinned):
            return float(output_of([*pinned, bench.vmrun, "--", program, "mapped"]))
        pair = Pair(f"random first touch, {where}", "us", 1.3, "1.3", other="bare handler")
        yield in_turns(pair, bench.rounds, bare, served)
        pair = Pair(f"random first touch, {where}, a bare handler in an event loop", "us", None, "", other="bare handler")
        yield in_turns(pair, bench.rounds, bare, lambda bare=bare: bare("loop"))


def many_faults(bench):
    program = str(bench.build / "bench/bare_faults")
    with bench.server() as server:
        def faults_of_threads(threads):
            return float(output_of([program, "mapped", str(threads)], env=server.environment()))
        for threads in (2, 4):
            pair = Pair(f"random first touch, {threads} threads of one program", "us", 1.5, "1.5", other="one thread")
            yield in_turns(pair, bench.rounds, lambda: faults_of_threads(1), lambda threads=threads: faults_of_threads(threads))

        def faults_of(programs):
            start = time.monotonic()
            running = [subprocess.Popen([program, "mapped"], env=server.environment(), stdout=subprocess.DEVNULL)
                       for _ in range(programs)]
            if any(each.wait() for each in running):
                raise Failed("a program of many failed")
            return (time.monotonic() - start) * 1e6 / (4096 * programs)
        for programs in (8, 64) if bench.quick else (8, 64, 200):
            pair = Pair(f"random first touch, {programs} programs at once, start and end included", "us", 1.5, "1.5",
                        other="one program")
            yield in_turns(pair, 2, lambda: faults_of(1), lambda programs=programs: faults_of(programs))


def forks(bench):
    command = [str(bench.build / "bench/forks"), "20", "256"]
    pair = Pair("fork and exit, 256 MiB resident", "us", 1.3, "1.3")
    yield in_turns(pair, bench.rounds, lambda: float(output_of(command)),
                   lambda: float(output_of([bench.vmrun, "--", *command])))


def start_up(bench):
    with bench.server() as server:
        pair = Pair("start-up: /bin/true against a running server", "ms", 1.5, "+1.5 ms", difference=True)

        def milliseconds(environment):
            return 1e3 * seconds_of("/bin/true", env=environment)
        # hyperfine takes the environment for its own as well, and is served itself then: only what it
        # starts is timed.
        yield in_turns(pair, 4 * bench.rounds, lambda: milliseconds(None), lambda: milliseconds(server.environment()))
    pair = Pair("vmrun /bin/true, with a server of its own", "ms", 30, "30 ms", difference=True)
    yield in_turns(pair, 2 * bench.rounds, lambda: 1e3 * seconds_of("/bin/true"),
                   lambda: 1e3 * seconds_of(f"{bench.vmrun} -- /bin/true"))


# Against a server that runs already: what the start of one costs has a row of its own.
PYTHON = """
import json, re
def fib(n): return n if n < 2 else fib(n - 1) + fib(n - 2)
for _ in range(4):
    tree = {str(i): [i, str(i) * 5, {"k": i}] for i in range(60000)}
    text = json.dumps(tree)
    assert json.loads(text) == tree
    words = re.findall(r"[a-z0-9]+", text)
    print(len(text), len(set(words)), sum(hash(w) & 1 for w in ["x" * n for n in range(5000)]) >= 0)
    print(fib(24), len(sorted(words)))
"""
SQLITE = """
PRAGMA journal_mode=MEMORY; CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT, c REAL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 900000)
INSERT INTO t SELECT i, printf('row %d of many', i * 7919 % 300007), i / 3.0 FROM n;
CREATE INDEX b ON t(b);
SELECT count(*), sum(c) FROM t WHERE b LIKE 'row 1%';
SELECT b FROM t ORDER BY b DESC LIMIT 3;
"""


def write_source(directory):
    """A C file that the compiler is busy with for seconds."""
    lines = ["#include <stdio.h>", "#include <string.h>"]
    for i in range(150):
        lines.append(f"""
int f{i}(const int* a, int n) {{
  int sum = {i};
  for (int i = 0; i < n; ++i) for (int j = 0; j < i % 7; ++j) sum += a[i] * (j + {i}) ^ (sum >> {i % 13 + 1});
  switch (sum % 5) {{ case 0: return sum; case 1: return sum * 3; case 2: return sum - 1; default: return -sum; }}
}}""")
    lines.append("int main(void) { int a[64] = {1, 2, 3}; int s = 0;")
    lines += [f"  s += f{i}(a, 64);" for i in range(150)]
    lines.append('  printf("%d\\n", s); return 0; }')
    (directory / "source.c").write_text("\n".join(lines))


def write_repository(directory):
    """A git repository with a history to pack."""
    script = """
set -e
git init -q repository && cd repository && git config user.email bench@example.org && git config user.name bench
for i in $(seq 40); do
  for j in $(seq 80); do seq $((i * j)) $((i * j + 1500)) >file$j; done
  git add -A && git commit -q -m "change $i"
done
"""
    output_of(["bash", "-c", script], cwd=directory)


def programs(bench):
    with tempfile.TemporaryDirectory(prefix="bench-programs-") as name:
        directory = pathlib.Path(name)
        (directory / "work.py").write_text(PYTHON)
        (directory / "work.sql").write_text(SQLITE)
        write_source(directory)
        write_repository(directory)
        with open(directory / "numbers", "w", encoding="ascii") as numbers:
            value = 1
            for _ in range(400_000 if bench.quick else 2_000_000):
                value = value * 6364136223846793005 % 18446744073709551616
                numbers.write(f"{value}\n")
        commands = {
            "python3": f"{sys.executable} work.py",  # not what a PATH has in its place
            "sqlite3": "sqlite3 :memory: '.read work.sql'",
            "gcc -O2": "gcc -O2 -o /dev/null source.c",
            "git gc": "git -C repository gc -q --aggressive --prune=now",
            "sort": "sort -n -S 300M -o sorted numbers",
        }
        with bench.server() as server:
            served = server.environment()
            for title, command in commands.items():
                pair = Pair(f"program: {title}", "s", 1.05, "1.05")
                yield in_turns(pair, 3 if bench.quick else 11, lambda command=command: seconds_of(command, cwd=name),
                               lambda command=command: seconds_of(command, cwd=name, env=served))
            yield redis(bench, directory, served)


def redis(bench, directory, served):
    """Seconds for 100,000 requests of each kind, which a client sends that is not served."""
    requests = "20000" if bench.quick else "200000"

    def seconds(environment):
        socket = directory / "redis.sock"
        server = subprocess.Popen(["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", "",
                                   "--dir", str(directory)], stdout=subprocess.DEVNULL, env=environment)
        try:
            while not socket.exists():
                if server.poll() is not None:
                    raise Failed("redis-server did not start")
                time.sleep(0.005)
            said = output_of(["redis-benchmark", "-s", str(socket), "-n", requests, "-d", "512",
                              "-r", "50000", "-P", "16", "-t", "set,lpush", "--csv"])
            rates = [float(rate) for rate in re.findall(r'^"(?:SET|LPUSH)","([0-9.]+)"', said, re.MULTILINE)]
            if len(rates) != 2:
                raise Failed(f"redis-benchmark said {said!r}")
            return sum(1e5 / rate for rate in rates)
        finally:
            server.terminate()
            server.wait()
            socket.unlink(missing_ok=True)
    pair = Pair("program: redis-server under redis-benchmark", "s", 1.05, "1.05")
    return in_turns(pair, bench.rounds, lambda: seconds(None), lambda: seconds(served))


def server_memory(bench):
    """Kibibytes of the server's own memory, against none."""
    program = str(bench.build / "bench/holder")

    def growth(server, count, *arguments):
        before = server.resident_kib()
        holders = [subprocess.Popen([program, *arguments], env=server.environment(), stdin=subprocess.PIPE,
                                    stdout=subprocess.PIPE, text=True) for _ in range(count)]
        for holder in holders:
            if holder.stdout.readline() != "ready\n":
                raise Failed("a holder of memory failed")
        after = server.resident_kib()
        for holder in holders:
            holder.stdin.close()
            holder.wait()
            holder.stdout.close()
        return after - before
    with bench.server() as server:
        growth(server, 4, "10", "1")  # what it needs once
        pair = Pair("server memory: a program with 100 mappings", "KiB", 64, "64 KiB", other="none", difference=True)
        pair.add(0, growth(server, 50, "100", "0") / 50)
        yield pair
        pair = Pair("server memory: a resident page", "bytes", 16, "16 bytes", other="none", difference=True)
        pair.add(0, max(0, growth(server, 1, "1", "512")) * 1024 / (512 * 256))
        yield pair


def paging(bench):
    """More memory than there is, against the kernel's own swap and against its own mmap of a file."""
    why_not = kernel_memory.missing()
    if why_not is not None:
        raise Failed(f"the kernel's side cannot be measured: {why_not}")
    limit = (64 if bench.quick else 128) << 20
    size = 4 * limit
    pages = size // 4096
    rounds = 2 if bench.quick else 3
    # What server and pagers need for themselves, beside what they give to programs.
    own = 48 << 20
    with tempfile.TemporaryDirectory(prefix="bench-paging-", dir=kernel_memory.SWAP_DIRECTORY) as name:
        for memory, order, steps, goal in (("anonymous", "sequential", 2 * pages, (1, "1")),
                                           ("anonymous", "random", pages // 4, (1.3, "1.3")),
                                           ("file", "sequential", 2 * pages, (None, "")),
                                           # The kernel reads 6 ms for each of these.
                                           ("file", "random", pages // 32, (None, ""))):
            file = pathlib.Path(name) / "file"

            def microseconds(environment=None, group=None, memory=memory, order=order, steps=steps, file=file):
                if memory == "file":
                    with open(file, "wb") as new:
                        new.truncate(size)
                kernel_memory.drop_caches()
                options = {"env": environment, "preexec_fn": group.enter if group else None}
                return float(output_of([str(bench.build / "bench/paging"), str(file) if memory == "file" else memory,
                                        order, str(size), str(steps)], **options))

            def kernel():
                with kernel_memory.Swap(size + limit), kernel_memory.Group(limit) as group:
                    return microseconds(group=group)

            def limited():
                with Server(bench.build, "--memory", str(limit)) as server:
                    return microseconds(server.environment())

            # Server, pagers and program in a group as well: what the host caches of swap and files counts.
            def confined():
                with kernel_memory.Group(limit + own) as group:
                    with Server(bench.build, "--memory", str(limit), group=group) as server:
                        return microseconds(server.environment(), group=group)

            what = f"{memory} memory of 4 times the limit" if memory == "anonymous" else "a file of 4 times the limit"
            against = "kernel's swap" if memory == "anonymous" else "kernel's mmap"
            for served, where in ((limited, "the host caches"), (confined, "in the same group")):
                pair = Pair(f"paging {what}, {order}, {where}", "us", *(goal if served is confined else (None, "")), other=against)
                yield in_turns(pair, rounds, kernel, served)


ALL = [first_touch, random_faults, many_faults, cold_files, mapped_files, file_calls, map_calls, forks, start_up, programs, server_memory]
# Takes minutes, root, and swap files of the kernel's.
ON_REQUEST = [paging]
