#!/usr/bin/env python3
"""Reads meson's testlog.json: prints what failed, and as the last line how many test cases passed
and failed.

Test cases are counted from the summary that Catch2 ends with, or line by line where a test speaks
TAP (the rules of the calls); of such a test only the failed lines are printed. Any other test
counts as one; so does a program that failed without saying in which test case (a crash, a timeout,
a sanitizer's exit status).
"""

import json
import re
import sys

ALL_PASSED = re.compile(r"^All tests passed \(.*?(\d+) test cases?\)", re.MULTILINE)
SOME_FAILED = re.compile(r"^test cases: +(\d+)(.*)$", re.MULTILINE)
PART = re.compile(r"\| +(\d+) (passed|failed)\b(?! as expected)")
TAP_PLAN = re.compile(r"^1\.\.(\d+)", re.MULTILINE)
TAP_LINE = re.compile(r"^(not ok|ok)\b([^#\n]*)(# *SKIP\b)?.*$", re.MULTILINE | re.IGNORECASE)
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def count_tap(output):
    """(passed, failed, skipped) of output that is TAP, or None. What the plan has and the output has
    not counts as failed."""
    plan = TAP_PLAN.search(output)
    if not plan:
        return None
    lines = [(line.group(1), bool(line.group(3))) for line in TAP_LINE.finditer(output)]
    skipped = sum(1 for kind, skip in lines if skip)
    passed = sum(1 for kind, skip in lines if kind == "ok" and not skip)
    return passed, int(plan.group(1)) - passed - skipped, skipped


def count_cases(output):
    """(passed, failed) of one Catch2 run, or None when there is no summary in its output."""
    output = ESCAPES.sub("", output)
    if match := ALL_PASSED.search(output):
        return int(match.group(1)), 0
    if match := SOME_FAILED.search(output):
        parts = {kind: int(count) for count, kind in PART.findall(match.group(2))}
        failed = parts.get("failed", 0)
        return int(match.group(1)) - failed, failed
    return None


def count_test(test):
    """(passed, failed, skipped) of one entry of the log."""
    if tap := count_tap(test.get("stdout", "")):
        passed, failed, skipped = tap
        good = test["result"] in ("OK", "EXPECTEDFAIL", "SKIP")
        return passed, failed if good else max(failed, 1), skipped
    cases = count_cases(test.get("stdout", ""))
    if test["result"] == "SKIP":
        return 0, 0, 1
    if test["result"] in ("OK", "EXPECTEDFAIL"):
        return (cases or (1, 0)) + (0,)
    if cases is None:
        return 0, 1, 0
    passed, failed = cases
    return passed, max(failed, 1), 0


def output_to_print(test, stream):
    output = test.get(stream, "").rstrip("\n")
    if stream == "stdout" and count_tap(output):
        return "\n".join(line for line in output.split("\n") if line.startswith("not ok"))
    return output


def read_log(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as log:
            return [json.loads(line) for line in log if line.strip()]
    except FileNotFoundError:
        return []


def main():
    tests = read_log(sys.argv[1])
    meson_failed = sys.argv[2] != "0"
    passed = failed = skipped = 0
    for test in tests:
        p, f, s = count_test(test)
        passed, failed, skipped = passed + p, failed + f, skipped + s
        if f:
            print(f"==== {test['name']}: {test['result']} (exit status {test.get('returncode')})")
            for stream in ("stdout", "stderr"):
                if output := output_to_print(test, stream):
                    print(output)
    if meson_failed and failed == 0:
        print("==== meson test failed without saying which test did")
        failed += 1
    if not tests and failed == 0:
        print("==== no test was run")
        failed += 1
    if skipped:
        print(f"{skipped} skipped")
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
