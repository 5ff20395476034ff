# shellcheck shell=bash
# title: python3's own test_multiprocessing_fork
# timeout: 240
. "$MATRIX/python_suite.sh"
python_suite test_multiprocessing_fork
