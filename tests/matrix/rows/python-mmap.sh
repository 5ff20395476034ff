# shellcheck shell=bash
# title: python3's own test_mmap
# timeout: 120
# vmrun: --personality linux
# It tests that msync refuses an address inside a page, as Linux does.
. "$MATRIX/python_suite.sh"
python_suite test_mmap
