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
print untouched[500000]
set var block->words[300000] = 1234
print block->words[300000]
watch total
continue
continue
delete
finish
continue
G
gdb -q -nx -batch -x commands ./debugged 2>&1 | grep -v -e '^\[Thread debugging' -e '^Using host libthread' -e '^\[New Thread' \
  -e '^\[Thread 0x' | sed -E 's/0x[0-9a-f]{6,}/ADDRESS/g; s/process [0-9]+/process PID/; s/LWP [0-9]+/LWP TID/'
rm debugged
