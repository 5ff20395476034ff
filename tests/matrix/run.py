#!/usr/bin/env python3
"""run.py [OPTION…] [ROW…]

Runs each ROW (rows/ROW.sh; all of them by default) as it is and then under vmrun, in an empty
directory of the same path, and compares what it printed, how it ended and the files it left, byte
for byte. A row fails as well when the served run was not served, or when either run left a process
or a server behind. docs/programs.md says what a row is.

Prints one line for each row and `N passed, N failed` at the end; the exit status is 0 when none
failed.
"""

import argparse
import pathlib
import signal
import sys
import tempfile

from driver import comparison, processes, table
from driver.row import Row, row_names
from driver.side import run_side

MATRIX = pathlib.Path(__file__).resolve().parent
ROOT = MATRIX.parent.parent


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("rows", metavar="ROW", nargs="*", help="names in rows/, without .sh")
    parser.add_argument("--vmrun", default=str(ROOT / "build/tools/vmrun"), help="vmrun to serve with")
    parser.add_argument("--rounds", type=int, default=1, metavar="N",
                        help="run each row N times; times are medians")
    parser.add_argument("--write-table", action="store_true",
                        help="put the rows that were run into the table of docs/programs.md")
    parser.add_argument("--keep", metavar="DIR",
                        help="leave what both sides printed and their files in DIR/ROW")
    parser.add_argument("--unserved", action="store_true",
                        help="serve nothing: run each row twice as it is, to see that it is the same")
    parser.add_argument("--list", action="store_true", help="print the names of all rows and end")
    return parser.parse_args()


def run_round(row, vmrun, keep):
    """(native, served, complaints) of one round."""
    with tempfile.TemporaryDirectory(prefix="matrix-") as name:
        root = pathlib.Path(name)
        root.chmod(0o755)
        native = run_side(row, root, "native", None)
        served = run_side(row, root, "served", vmrun)
        complaints = native.complaints + served.complaints + comparison.differences(row, native, served)
        if keep:
            comparison.keep(pathlib.Path(keep) / row.name, native, served)
        return native, served, complaints


def run_row(row, options):
    result = table.Result(row)
    for _ in range(options.rounds):
        native, served, complaints = run_round(row, None if options.unserved else options.vmrun, options.keep)
        result.add(native, served, complaints)
        if complaints:
            break
    print(result.line(), flush=True)
    for complaint in result.complaints:
        print("  " + complaint.rstrip("\n").replace("\n", "\n  "), flush=True)
    return result


def main():
    # A shell that started this in the background has SIGINT ignored, and so would the programs.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    options = arguments()
    if options.list:
        print("\n".join(row_names(MATRIX)))
        return 0
    if unknown := set(options.rows) - set(row_names(MATRIX)):
        sys.exit(f"run.py: no such row: {' '.join(sorted(unknown))}")
    processes.adopt_orphans()
    results = [run_row(Row(MATRIX, name), options) for name in options.rows or row_names(MATRIX)]
    if options.write_table:
        table.write(ROOT / "docs/programs.md", results)
    failed = sum(1 for result in results if result.complaints)
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
