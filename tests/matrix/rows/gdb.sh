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
gdb -q -nx -batch -x commands ./debugged > "$SCRATCH/gdb"
# What gdb says of threads is left out, because the shim has one; and addresses and numbers of
# processes, because they differ.
grep -v -e '^\[Thread ' -e '^\[New Thread ' -e '^Using host libthread_db' "$SCRATCH/gdb" |
  sed -E 's/^Thread 1 "debugged" hit //; s/0x[0-9a-f]{6,}/ADDRESS/g; s/process [0-9]+/process PID/'
rm debugged
