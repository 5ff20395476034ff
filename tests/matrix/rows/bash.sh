# shellcheck shell=bash
# title: bash: a long script of pipes, subshells, here-documents, traps and coprocesses
set -u

echo '--- pipes'
seq 1 20000 | grep 7 | sed 's/7/<&>/g' | awk '{ n += length($0) } END { print NR, n }'
for i in {1..60}; do
  seq "$i" 400 | tr 0-9 a-j | sort -r | head -n "$i" | tail -n 1
done | sha256sum
yes line | head -c 300000 | wc -lc

echo '--- subshells'
depth() {
  if (( $1 > 0 )); then ( depth $(( $1 - 1 )); echo "left $1" ); else echo bottom; fi
}
depth 25 | md5sum
total=0
for i in {1..300}; do
  part=$(echo $(( i * i )))
  (( total += part ))
done
echo "squares $total"
( variable=inside; exit 3 ); echo "status $? ${variable-unset}"

echo '--- arrays and strings'
declare -A count=()
while read -r word; do
  (( count[$word] += 1 ))
done < <(for i in {1..4000}; do echo "w$(( i * 7919 % 97 ))"; done)
for word in "${!count[@]}"; do echo "$word ${count[$word]}"; done | sort | md5sum
long=
for i in {1..3000}; do long+="$i-"; done
echo "${#long} ${long: -20} ${long//-/ }" | md5sum
mapfile -t lines < <(seq 1 30000)
echo "${#lines[@]} ${lines[29999]}"
IFS=, ; echo "${lines[*]:10:5}"; unset IFS

echo '--- processes side by side'
for i in {1..40}; do
  ( seq 1 "$(( i * 50 ))" > "part.$i" ) &
done
wait
cat part.* | wc -l
coproc { tr a-z A-Z; }
echo 'said to a coprocess' >&"${COPROC[1]}"
exec {COPROC[1]}>&-
read -r answer <&"${COPROC[0]}"; echo "$answer"
wait

echo '--- signals'
trap 'echo caught' USR1
kill -USR1 $BASHPID
( trap 'echo leaving' EXIT; exit 5 ); echo "status $?"
bash -c 'kill -TERM $$'; echo "status $?"
set -o pipefail
false | true; echo "pipefail $?"

echo '--- files'
cat > here <<EOF
$(seq 1 500 | paste -sd+)
EOF
bc=$(( $(cat here) )); echo "$bc"
find . -name 'part.*' | sort | xargs -n 7 cat | cksum
for i in {1..100}; do
  printf '%s\n' "$i" | tee "copy.$(( i % 10 ))" >> log
done
exec bash -c 'echo replaced; ls | wc -l'
