#!/bin/sh
# git_peer.sh REPOSITORY BRANCH ROUNDS
#
# One of several processes on one git repository: commits to a branch of its own in a work tree of its
# own, looks at the others' branches, packs and prunes now and then. Prints the last commit.
set -e
export GIT_AUTHOR_NAME="$2" GIT_AUTHOR_EMAIL=peer@example.org
export GIT_COMMITTER_NAME="$2" GIT_COMMITTER_EMAIL=peer@example.org
cd "$1-$2"
round=0
while [ "$round" -lt "$3" ]; do
  round=$((round + 1))
  for file in 1 2 3 4 5; do
    seq "$((round * file))" "$((round * file + 400))" >"$2.$file"
  done
  git add .
  git commit -q -m "$2 $round"
  git log --oneline --all >/dev/null
  git diff HEAD~1 >/dev/null
  git status --short >/dev/null
  case $((round % 10)) in
    3) git repack -q ;;
    6) git pack-refs --all 2>/dev/null || true ;; # another may be at it
    9) git repack -q -a ;;
  esac
done
git rev-parse HEAD
