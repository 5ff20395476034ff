# shellcheck shell=bash
# title: git: clone, gc, fsck and merge on a repository of 150 commits
set -e -o pipefail
export GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@example.org
export GIT_COMMITTER_NAME=c GIT_COMMITTER_EMAIL=c@example.org
export GIT_AUTHOR_DATE='2020-01-01T00:00:00Z' GIT_COMMITTER_DATE='2020-01-01T00:00:00Z'
git config --global init.defaultBranch main
git config --global gc.auto 0
git config --global pack.threads 1  # with more, what a pack holds depends on their race
perl -e '
  srand 7; my $mark = 0; my @parent;
  sub text { my ($seed, $lines) = @_; join "", map { sprintf "%s line %d of %d\n", $seed, $_, ($_ * $seed) % 1009 } 1 .. $lines }
  sub data { my $t = shift; "data " . length($t) . "\n$t\n" }
  for my $n (1 .. 150) {
    print "commit refs/heads/main\nmark :$n\nauthor a <a\@example.org> ", 1577836800 + $n, " +0000\n";
    print "committer c <c\@example.org> ", 1577836800 + $n, " +0000\n", data("Commit $n");
    print "from :", $n - 1, "\n" if $n > 1;
    for my $f (1 .. 8) {
      my $name = int(rand 120);
      print "M 644 inline dir", $name % 12, "/file$name\n", data(text($n + $f, 40 + $name));
    }
  }' > "$SCRATCH/stream"
git init -q origin
git -C origin fast-import --quiet < "$SCRATCH/stream"
git -C origin checkout -q -f main
git clone -q --no-local origin copy
cd copy
git checkout -q -b topic HEAD~20
for i in 1 2 3; do
  echo "topic $i" >> "topic.$i"; seq 1 2000 > "big.$i"
  git add . && git commit -q -m "Topic $i"
done
git checkout -q main
git merge -q --no-edit topic
git log --graph --oneline | sha256sum
git checkout -q -b conflict HEAD~2
echo other > topic.1 && git add . && git commit -q -m 'Other'
git merge main || echo "conflict: status $?"
git merge --abort
git checkout -q main
git gc -q --prune=now
git fsck --full --strict
git count-objects -v | grep -v size
git rev-list --all --objects | sort | sha256sum
git cat-file --batch-all-objects --batch-check | sha256sum
git diff --stat HEAD~30 HEAD | tail -n 1
git grep -c 'line 7 ' HEAD | sha256sum
git blame dir1/file1 | sha256sum
git archive HEAD | sha256sum
git bundle create -q ../bundle --all
git clone -q ../bundle ../again
git -C ../again fsck
cd ..
# Stat data of files: inodes and times.
rm -f ./*/.git/index
