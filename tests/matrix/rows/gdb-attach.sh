# shellcheck shell=bash
# title: gdb attached from outside to a running program, reading and writing its memory
set -e -o pipefail
gcc -g -O0 -o "$SCRATCH/debugged" "$MATRIX/debugged.c"
gcc -o "$SCRATCH/peek" "$MATRIX/peek.c"
mkfifo "$SCRATCH/in" "$SCRATCH/out"
"$SCRATCH/debugged" 5 wait < "$SCRATCH/in" > "$SCRATCH/out" &
program=$!
exec 3> "$SCRATCH/in" 4< "$SCRATCH/out"
read -r word untouched <&4; echo "$word"
cat > commands <<'G'
set confirm off
set debuginfod enabled off
set width 0
set max-value-size unlimited
set pagination off
frame function main
info locals
print total
x/4uw block->words
x/2uw &block->words[300000]
print mapped[0]
print mapped[500000]
dump binary memory block.dump block (block + 1)
dump binary memory mapped.dump mapped (mapped + 1048576)
set var block->words[300000] = 4321
set var mapped[500000] = 8
print work(7)
print (long)block->words[2000]
detach
G
# Who looks in from outside is not served. Untouched memory is read by other means than gdb's:
# docs/programs.md says why.
env -u LD_PRELOAD "$SCRATCH/peek" "$program" "$untouched"
env -u LD_PRELOAD gdb -q -nx -batch -p "$program" -x commands > "$SCRATCH/gdb" 2> "$SCRATCH/gdb.err" ||
  cat "$SCRATCH/gdb.err"
# From the first command's output on; before that are addresses, threads and libraries.
sed -n '/ main (/,$p' "$SCRATCH/gdb" | sed -E 's/0x[0-9a-f]{6,}/ADDRESS/g; s/process [0-9]+/process PID/'
echo >&3
cat <&4
wait $program; echo "program: $?"
