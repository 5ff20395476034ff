# shellcheck shell=bash
# title: tar and xz -T2 of 20 MB, and back
set -e -o pipefail
mkdir -p "$SCRATCH/tree" "$SCRATCH/back"
perl -e '
  srand 3; my @words = map { join "", map { chr 97 + rand 26 } 1 .. 2 + rand 9 } 1 .. 3000;
  for my $n (1 .. 20) {
    open my $f, ">", "$ARGV[0]/file$n" or die;
    for (1 .. 1000) { print $f join(" ", map { $words[rand @words] } 1 .. 150), "\n" }
  }' "$SCRATCH/tree"
tar --sort=name --owner=0 --group=0 --mtime=@0 -C "$SCRATCH" -cf "$SCRATCH/tree.tar" tree
sha256sum < "$SCRATCH/tree.tar"
xz -T2 -1 --block-size=4MiB -k -c "$SCRATCH/tree.tar" > tree.tar.xz
xz -T2 -t tree.tar.xz
xz -l --robot tree.tar.xz | grep ^totals
xz -T2 -dc tree.tar.xz | cmp - "$SCRATCH/tree.tar"
tar -C "$SCRATCH/back" -xJf tree.tar.xz
diff -r "$SCRATCH/tree" "$SCRATCH/back/tree"
