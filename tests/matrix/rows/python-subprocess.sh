# title: python3's own test_subprocess
# timeout: 150
. "$MATRIX/python_suite.sh"
python_suite test_subprocess
