# shellcheck shell=bash
# title: dash: a long script of loops, pipes, background jobs and nested shells
cat > script <<'SCRIPT'
set -u
i=0 sum=0
while [ $i -lt 60000 ]; do i=$((i + 1)); sum=$(((sum * 31 + i) % 1000003)); done
echo "sum $sum"

i=0
while [ $i -lt 200 ]; do
  i=$((i + 1))
  out=$(echo "$i" | tr 0-9 a-j)
  case $out in *a*) echo "$out" ;; esac
done | cksum

long=
i=0
while [ $i -lt 2000 ]; do i=$((i + 1)); long="$long $i"; done
set -- $long
echo "$# ${20} ${#long}"
for word in "$@"; do echo "$word"; done | sort -n | tail -n 1

i=0
while [ $i -lt 50 ]; do
  i=$((i + 1))
  (i=$((i * 100)); seq 1 $i > "part.$i") &
done
wait
cat part.* | wc -l

nest() {
  if [ "$1" -gt 0 ]; then (nest $(($1 - 1)); echo "left $1"); fi
}
nest 40 | cksum
trap 'echo caught' USR1
kill -USR1 $$
(trap 'echo leaving' EXIT; exit 4)
echo "status $?"
seq 1 100000 | while read -r line; do [ "$line" -ge 20000 ] && echo "$line" && break; done
while read -r a b; do echo "$b $a"; done <<EOF
$(seq 1 1000 | paste - -)
EOF
dash -c 'exec dash -c "echo inner \$0" word'
SCRIPT
dash script > out
status=$?
tail -n 3 out
exit $status
