# title: python3's own test_subprocess
# timeout: 150
# vmrun: --socket-mode 0666
# Some of its programs run as another user.
. "$MATRIX/python_suite.sh"
python_suite test_subprocess
