# shellcheck shell=bash
# python_suite TEST [IGNORED…]: one file of python3's own test suite (libpython3.11-testsuite), but for
# the tests IGNORED. Printed are the name and outcome of every test, in order; times are not. What
# python said goes to the row's standard error when a test failed.
python_suite() {
  local test=$1 status ignored=()
  shift
  for name; do ignored+=(--ignore "$name"); done
  /usr/bin/python3 -m test --tempdir "$SCRATCH" --junit-xml "$SCRATCH/results.xml" -W \
    "${ignored[@]}" "$test" > "$SCRATCH/said" 2>&1
  status=$?
  [ "$status" -eq 0 ] || cat "$SCRATCH/said" >&2
  /usr/bin/python3 - "$SCRATCH/results.xml" <<'PROGRAM' || return
import collections, sys
import xml.etree.ElementTree as xml

outcomes = []
for case in xml.parse(sys.argv[1]).iter("testcase"):
    found = [child.tag for child in case if child.tag in ("error", "failure", "skipped")]
    outcomes.append((str(case.get("name")), " ".join(found) or str(case.get("result"))))
for outcome in sorted(outcomes):
    print(*outcome)
print("total:", dict(sorted(collections.Counter(outcome[1] for outcome in outcomes).items())))
sys.exit(not outcomes)
PROGRAM
  return "$status"
}
