# One file of python3's own test suite (libpython3.11-testsuite). Printed are the name and outcome of
# every test, in order; times, and output of tests that differs from run to run, are not. What python
# said goes to the row's standard error when a test failed.
python_suite() {
  /usr/bin/python3 -m test --tempdir "$SCRATCH" --junit-xml "$SCRATCH/results.xml" -W "$1" \
    > "$SCRATCH/said" 2>&1
  local status=$?
  [ "$status" -eq 0 ] || cat "$SCRATCH/said" >&2
  /usr/bin/python3 - "$SCRATCH/results.xml" <<'PROGRAM' || return
import collections, sys
import xml.etree.ElementTree as xml

outcomes = []
for case in xml.parse(sys.argv[1]).iter("testcase"):
    found = [child.tag for child in case if child.tag in ("error", "failure", "skipped")]
    outcomes.append((case.get("name"), case.get("result"), " ".join(found) or "passed"))
for outcome in sorted(outcomes):
    print(*outcome)
print("total:", dict(sorted(collections.Counter(o[2] for o in outcomes).items())))
sys.exit(not outcomes)
PROGRAM
  return "$status"
}
