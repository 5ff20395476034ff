# shellcheck shell=bash
# title: python3's own test_gc
# timeout: 120
. "$MATRIX/python_suite.sh"
python_suite test_gc
