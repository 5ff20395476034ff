#!/bin/sh
# build.sh DIRECTORY-OF-PC-FILES OUTPUT COMPILER... SOURCE: builds a FreeBSD source as its user
# would, with what pkg-config says and nothing else but warnings.
set -eu
PKG_CONFIG_PATH=$1
output=$2
shift 2
export PKG_CONFIG_PATH
# shellcheck disable=SC2046
exec "$@" -Wall -Wextra -Wpedantic -Werror -o "$output" $(pkg-config --cflags --libs vmshim-freebsd)
