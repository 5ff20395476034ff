# shellcheck shell=bash
# title: redis-server: BGSAVE under load, the same data after loading it again
set -e -o pipefail
cli() { redis-cli -s "$SCRATCH/redis.sock" "$@"; }
start() {
  redis-server --port 0 --unixsocket "$SCRATCH/redis.sock" --dir "$SCRATCH" --save '' \
    --enable-debug-command yes --loglevel warning --logfile "$SCRATCH/log" &
  until [ "$(cli PING 2>&1)" = PONG ]; do sleep 0.05; done
}
field() { cli INFO "$1" | tr -d '\r' | sed -n "s/^$2://p"; }

start
# Keys of every type, and 60 MB of values.
perl -e '
  for my $i (0 .. 59999) {
    print "SET string:$i ", chr(97 + $i % 26) x (10 + $i * 37 % 1900), $i, "\r\n";
    print "HSET hash:", $i % 300, " field$i $i\r\nRPUSH list:", $i % 70, " element$i\r\n";
    print "ZADD sorted:", $i % 50, " $i member$i\r\nSADD set:", $i % 40, " $i\r\n";
    print "DEL string:", $i / 2, "\r\n" if $i % 6 == 0;
  }' | cli --pipe | tail -n 1
cli DBSIZE
digest=$(cli DEBUG DIGEST); echo "digest $digest"

# A load that goes on while children save what there was when they were forked. Its keys are of its
# own database; each value is the benchmark's, the same for all.
redis-benchmark -s "$SCRATCH/redis.sock" --dbnum 1 -q -d 700 -c 20 -n 60000 -r 20000 \
  -t set,lpush > "$SCRATCH/benchmark" 2>&1 &
load=$!
for round in 1 2 3; do
  until cli BGSAVE | grep -q started; do sleep 0.05; done
  while [ "$(field persistence rdb_bgsave_in_progress)" = 1 ]; do sleep 0.02; done
  echo "save $round: $(field persistence rdb_last_bgsave_status)"
done
wait $load; echo "load: $?"
grep -i error "$SCRATCH/benchmark" || echo 'no errors'

# What a child saved is what the server holds, once nobody changes it.
cli BGSAVE > /dev/null
while [ "$(field persistence rdb_bgsave_in_progress)" = 1 ]; do sleep 0.02; done
held=$(cli DEBUG DIGEST)
cli SHUTDOWN NOSAVE || true
wait %1; echo "server: $?"
start
[ "$(cli DEBUG DIGEST)" = "$held" ] && echo 'loaded what was held'
cli -n 1 EVAL "local wrong, keys = 0, redis.call('KEYS', 'key:*')
  local first = redis.call('GET', keys[1])
  for _, key in ipairs(keys) do
    local value = redis.call('GET', key)
    if #value ~= 700 or value ~= first then wrong = wrong + 1 end
  end
  return {wrong, #keys > 15000 and 'all there' or #keys}" 0
cli -n 1 LLEN mylist
cli -n 1 FLUSHDB
[ "$(cli DEBUG DIGEST)" = "$digest" ] && echo 'the first data are as they were'
cli SAVE; redis-check-rdb "$SCRATCH/dump.rdb" | grep -o "RDB looks OK.*"
cli SHUTDOWN NOSAVE || true
wait %1; echo "server: $?"
