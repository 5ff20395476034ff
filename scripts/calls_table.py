#!/usr/bin/env python3
"""Prints docs/calls.md from what the rules' programs print with --table.

    calls_table.py PROGRAM...                 prints the page
    calls_table.py --check PAGE PROGRAM...    exits with 1, and a diff, when PAGE is not that

The programs are tests/rules/rules_host and tests/rules/rules_freebsd. A rule that both have must say
the same in both.
"""

import difflib
import json
import os
import subprocess
import sys

PERSONALITIES = ("freebsd-7", "freebsd-14", "linux")
NUMBERS = {"host": "the host's numbers", "freebsd": "FreeBSD's numbers"}

HEADER = """\
# The rules of the calls

One table per call: what a program does, and what comes of it under each
[personality](vmserver.md). **This page is printed from the tests** in `tests/rules`: each row is one
test, and what a cell says is what the test compares with. `scripts/calls_table.py` prints it;
the test `docs/calls.md` fails when the page is not what it prints.

```
build/tests/rules/rules_host linux                                          the host itself
build/tools/vmrun --personality freebsd-14 -- build/tests/rules/rules_host freebsd-14 mmap
```

- A program that was built with the host's headers passes the host's numbers, one that was built with
  FreeBSD's passes FreeBSD's. A row holds for both, unless it names one of them.
- "—": there is nothing to say for that personality, and nothing is tested.
- *Source* is one for each personality, in their order, where they differ. freebsd-7: the functions of
  the seed, FreeBSD 7's vm_mmap.c. freebsd-14: FreeBSD 14's manual pages, and its kernel where they
  are silent; "as freebsd-7" where the page says nothing else. linux: Linux's manual pages, or the
  kernel itself, against which that column is tested, too.
"""


def read_table(program):
    # A program that is linked with libvmshim.so is asked without a server.
    environment = {**os.environ, "VMSHIM_ON_ERROR": "native"}
    output = subprocess.run(
        [program, "--table"], env=environment, check=True, capture_output=True, text=True
    )
    return json.loads(output.stdout)


def merge(tables):
    """The rules of all tables, in the order of the first that has each; with its numbers."""
    merged = {}
    order = []
    for table in tables:
        previous = None
        for rule in table["rules"]:
            key = (rule["call"], rule["name"])
            if key not in merged:
                merged[key] = (rule, [])
                at = order.index(previous) + 1 if previous in order else first_of(order, key[0])
                order.insert(at, key)
            elif merged[key][0] != rule:
                sys.exit(f"{'.'.join(key)} is not the same in both sets of numbers")
            merged[key][1].append(table["numbers"])
            previous = key
    return [merged[key] for key in order]


def first_of(order, call):
    """Where rules of the call begin; at the end when there are none yet."""
    for i, key in enumerate(order):
        if key[0] == call:
            return i
    return len(order)


def escape(text):
    return text.replace("|", "\\|")


def situation(rule, numbers, all_numbers):
    parts = [escape(rule["situation"]) or "the call"]
    if set(numbers) != set(all_numbers):
        parts.append(f"*({NUMBERS[numbers[0]]})*")
    if rule["option"]:
        parts.append(f"*(the server has `{rule['option']}`)*")
    return " ".join(parts)


def sources(rule):
    named = [rule["outcomes"][p]["source"] for p in PERSONALITIES if p in rule["outcomes"]]
    return escape("; ".join(dict.fromkeys(named)))


def row(rule, numbers, all_numbers):
    cells = [situation(rule, numbers, all_numbers)]
    for personality in PERSONALITIES:
        outcome = rule["outcomes"].get(personality)
        cells.append(escape(outcome["text"]) if outcome else "—")
    cells.append(f"`{rule['call']}.{rule['name']}`")
    cells.append(sources(rule))
    return "| " + " | ".join(cells) + " |"


def page(tables):
    all_numbers = [table["numbers"] for table in tables]
    lines = [HEADER]
    call = None
    for rule, numbers in merge(tables):
        if rule["call"] != call:
            if call is not None:
                lines.append("")
            call = rule["call"]
            lines.append(f"## {call}\n")
            lines.append(f"| the program | {' | '.join(PERSONALITIES)} | test | source |")
            lines.append("| --- | --- | --- | --- | --- | --- |")
        lines.append(row(rule, numbers, all_numbers))
    return "\n".join(lines) + "\n"


def check(path, wanted):
    with open(path, encoding="utf-8") as file:
        present = file.read()
    if present == wanted:
        return 0
    sys.stdout.writelines(
        difflib.unified_diff(present.splitlines(True), wanted.splitlines(True), path, "the rules")
    )
    return 1


def main():
    arguments = sys.argv[1:]
    path = None
    if arguments[:1] == ["--check"]:
        path = arguments[1]
        arguments = arguments[2:]
    if not arguments:
        sys.exit(__doc__)
    wanted = page([read_table(program) for program in arguments])
    if path is None:
        sys.stdout.write(wanted)
        return 0
    return check(path, wanted)


if __name__ == "__main__":
    sys.exit(main())
