# shellcheck shell=bash
# title: python3's own test_subprocess
# timeout: 150
# vmrun: --socket-mode 0666
# Some of its programs run as another user. The two tests left out list all descriptors of a process:
# a served one has more (docs/programs.md).
. "$MATRIX/python_suite.sh"
python_suite test_subprocess test_close_fds_when_max_fd_is_lowered test_pass_fds_redirected
