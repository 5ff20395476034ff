# shellcheck shell=bash
# title: gdb running a program: breakpoint, backtrace, its memory read and written, its end
set -e -o pipefail
cp "$MATRIX/debugged.c" .
gcc -g -O0 -o debugged debugged.c
cat > commands <<'G'
set confirm off
set debuginfod enabled off
set width 0
set max-value-size unlimited
break work if round == 3
run 5
backtrace
info locals
print total
print block->text
x/4uw block->words
x/2uw &block->words[300000]
print mapped[500000]
set var block->words[300000] = 1234
set var mapped[500000] = 77
print block->words[300000]
dump binary memory mapped.dump mapped (mapped + 1048576)
watch total
continue
continue
delete
finish
continue
G
# gdb 13 at times loses a program of more than one thread just when that ends, served or not, and a
# served program has two. Only then is it tried again.
lost="Couldn't get registers: No such process"
for _ in $(seq 20); do
  status=0
  gdb -q -nx -batch -x commands ./debugged > "$SCRATCH/gdb" 2> "$SCRATCH/gdb.err" || status=$?
  grep -q "$lost" "$SCRATCH/gdb.err" || break
done
cat "$SCRATCH/gdb.err" >&2
# What gdb says of threads ("New process" is one) is left out, because the shim has one; so are
# addresses and numbers of processes, because they differ.
grep -v -e '^\[Thread ' -e '^\[New Thread ' -e '^\[New process ' -e '^Using host libthread_db' "$SCRATCH/gdb" |
  sed -E 's/^Thread 1 "debugged" hit //; s/0x[0-9a-f]{6,}/ADDRESS/g; s/process [0-9]+/process PID/'
rm debugged
exit $status
