#!/usr/bin/env python3
"""run.py [OPTION…] [PART…]

Measures what it costs to be served: each row served and natively (or against what the row names), in
turns, several rounds, medians. Prints a table; --json writes everything measured. The exit status is 0
when all could be measured, and with --compare nothing became more than a tenth worse.
"""

import argparse
import json
import os
import pathlib
import platform
import signal
import sys

from suite import rows, table
from suite.measure import Failed, Server

ROOT = pathlib.Path(__file__).resolve().parent.parent


class Bench:
    def __init__(self, options):
        self.build = pathlib.Path(options.build)
        self.vmrun = str(self.build / "tools/vmrun")
        self.quick = options.quick
        self.rounds = 3 if options.quick else 5

    def server(self):
        return Server(self.build)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parts = {part.__name__: part for part in rows.ALL + rows.ON_REQUEST}
    parser.add_argument("parts", metavar="PART", nargs="*", choices=[[], *parts], help="what to measure: " + ", ".join(parts)
                        + "; all but " + ", ".join(part.__name__ for part in rows.ON_REQUEST) + " unless named")
    parser.add_argument("--quick", action="store_true", help="fewer rounds and smaller sizes: under two minutes")
    parser.add_argument("--json", metavar="FILE", help="write everything measured to FILE")
    parser.add_argument("--compare", metavar="FILE", nargs="?", const=str(ROOT / "bench/baseline.json"),
                        help="say what is more than a tenth worse than in FILE (default: bench/baseline.json)")
    parser.add_argument("--write-table", action="store_true", help="put the table into docs/performance.md")
    parser.add_argument("--build", metavar="DIR", default=str(ROOT / "build"))
    options = parser.parse_args()
    options.parts = [parts[name] for name in options.parts] or rows.ALL
    return options


def processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def machine():
    return {"processor": processor(), "kernel": platform.release(), "cpus": os.cpu_count(), "load_before": os.getloadavg()[0]}


def write_table(text):
    """Between the two marks of docs/performance.md."""
    page = ROOT / "docs/performance.md"
    before, rest = page.read_text(encoding="utf-8").split("--write-table -->\n", 1)
    after = rest[rest.index("<!-- end -->"):]
    page.write_text(f"{before}--write-table -->\n{text}\n{after}", encoding="utf-8")


def main():
    # What was set up is taken down, whoever ends this.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    options = arguments()
    bench = Bench(options)
    where = machine()
    pairs = []
    failures = []
    for part in options.parts:
        print(f"{part.__name__} …", file=sys.stderr, flush=True)
        try:
            pairs.extend(part(bench))
        except Failed as failure:
            failures.append(f"{part.__name__}: {failure}")
    text = f"Linux {where['kernel']}, {where['cpus']} CPUs ({where['processor']}), load before {where['load_before']:.2f}\n\n"
    text += "\n".join(table.lines(pairs))
    print(text)
    if options.write_table:
        write_table(text)
    measured = {"machine": where, "quick": options.quick, "rows": [pair.as_json() for pair in pairs]}
    if options.json:
        pathlib.Path(options.json).write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    worse = []
    if options.compare:
        worse = list(table.worse_than(pairs, json.loads(pathlib.Path(options.compare).read_text(encoding="utf-8"))))
        print("\nWorse than the baseline by more than a tenth: " + ("\n  ".join(["", *worse]) if worse else "nothing"))
    for failure in failures:
        print(f"not measured: {failure}", file=sys.stderr)
    return 1 if failures or worse else 0


if __name__ == "__main__":
    sys.exit(main())
