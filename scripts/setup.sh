# shellcheck shell=bash
# Shell functions shared by the other scripts: packages, configuration, build. Sourced by
# bash, not run. Nothing here writes to standard output or reads standard input.

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
build=$root/build

die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# The packages of these kinds ("build", "test", "long") that are not installed, one on a line.
missing_packages() {
  local wanted installed
  wanted=$(awk -v kinds=" $* " '!/^#/ && NF == 2 && index(kinds, " " $1 " ") { print $2 }' \
    "$root/scripts/packages" | sort -u)
  # dpkg-query fails when one of them is not known at all; the others are listed all the same.
  # shellcheck disable=SC2086
  installed=$(dpkg-query --show --showformat='${db:Status-Status} ${Package}\n' $wanted \
    2>/dev/null | awk '$1 == "installed" { print $2 }' | sort)
  comm -23 <(printf '%s\n' "$wanted") <(printf '%s\n' "$installed")
}

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif command -v sudo >/dev/null; then
    sudo "$@"
  else
    die "installing packages takes root: $*"
  fi
}

# Installs what is missing. Services of the new packages (redis-server) are not started: a policy
# says no for as long as the installation runs, unless the machine has a policy of its own.
install_packages() {
  local missing
  missing=$(missing_packages "$@")
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null || die "no apt-get here; needed: ${missing//$'\n'/ }"
  printf 'installing %s\n' "${missing//$'\n'/ }" >&2
  # shellcheck disable=SC2016,SC2086
  as_root bash -c '
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
      trap "rm -f $policy" EXIT
      trap "exit 1" INT TERM HUP
      printf "#!/bin/sh\nexit 101\n" >"$policy" && chmod 755 "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp) || exit 1
    if ! { apt-get -q update && apt-get -q -y --no-install-recommends install "$@"; } >"$log" 2>&1
    then
      cat "$log" >&2
      rm -f "$log"
      exit 1
    fi
    rm -f "$log"' install $missing </dev/null >&2 || die "cannot install packages"
}

# Runs a command without a word, or with everything it said when it fails.
quietly() {
  local output
  if ! output=$("$@" </dev/null 2>&1); then
    printf '%s\n' "$output" >&2
    return 1
  fi
}

# Configures once and builds these targets, or all. One at a time in the same tree.
build_targets() {
  local lock
  mkdir -p "$build" || die "cannot make $build"
  exec {lock}>"$build/.lock" || die "cannot lock $build"
  flock "$lock"
  if [ ! -e "$build/build.ninja" ]; then
    quietly meson setup --buildtype=debugoptimized "$build" "$root" || die "cannot configure $build"
  fi
  quietly ninja -C "$build" "$@" || die "cannot build in $build"
  exec {lock}>&-
}
