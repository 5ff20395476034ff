# shellcheck shell=bash
# title: sort --parallel=2 of 200 MB
# timeout: 200
set -e -o pipefail
perl -e '
  srand 5; my @part = map { sprintf "%08x", rand 4294967296 } 1 .. 65536;
  # Lines of 38 bytes.
  print "$part[rand 65536]$part[rand 65536]$part[rand 65536] key $part[rand 65536]\n" for 1 .. 5263158' \
  > "$SCRATCH/lines"
wc -c < "$SCRATCH/lines"
sort --parallel=2 -S 400M "$SCRATCH/lines" > sorted
sort -c sorted
wc -lc < sorted
sort --parallel=2 -S 60M -k 3 -r "$SCRATCH/lines" | sha256sum
