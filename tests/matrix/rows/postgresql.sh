# shellcheck shell=bash
# title: PostgreSQL: initdb, pgbench for 60 s, then checks of what it holds
# timeout: 300
# vmrun: --socket-mode 0666
# The server refuses to be root's, so all of it runs as the user that its package makes.
set -e -o pipefail
if [ "$(id -u)" = 0 ]; then
  chown postgres "$SCRATCH" .
  exec setpriv --reuid=postgres --regid=postgres --clear-groups bash "$MATRIX/rows/postgresql.sh"
fi
PATH=$(echo /usr/lib/postgresql/*/bin):$PATH
export PGHOST=$SCRATCH PGPORT=5432 PGDATABASE=postgres PGUSER=postgres PGDATA=$SCRATCH/data
initdb --auth=trust --username=postgres --encoding=UTF8 --locale=C --data-checksums > "$SCRATCH/initdb"
grep -c ok "$SCRATCH/initdb"
cat >> "$PGDATA/postgresql.conf" <<EOF
listen_addresses = ''
unix_socket_directories = '$SCRATCH'
shared_buffers = 64MB
max_parallel_workers_per_gather = 2
EOF
pg_ctl -w -l "$SCRATCH/log" start > /dev/null
psql -XAtq -c 'create extension amcheck'
pgbench -q -i -s 5 2> /dev/null
pgbench -c 4 -j 2 -T 60 > "$SCRATCH/pgbench" 2> "$SCRATCH/pgbench.err"
# How many transactions there were is left out; that none failed, and what they add up to, is not.
grep -E '^(transaction type|scaling|number of failed)' "$SCRATCH/pgbench"
awk '/actually processed/ { print ($NF > 300) ? "processed" : "only " $NF " transactions" }' "$SCRATCH/pgbench"
sums="select a = b and b = t and t = h as sums_agree, n = accounts as history_complete from
  (select sum(abalance) a, count(*) accounts from pgbench_accounts) accounts,
  (select sum(bbalance) b from pgbench_branches) branches,
  (select sum(tbalance) t from pgbench_tellers) tellers,
  (select coalesce(sum(delta), 0) h, 500000 n from pgbench_history) history"
psql -XAtq -c "$sums"
pg_amcheck --heapallindexed --rootdescend --no-strict-names
vacuumdb -q --all --full --analyze
pg_amcheck --heapallindexed
psql -XAtq -c "$sums"
# Data that do not depend on the benchmark: sorted and joined in parallel, dumped, and restored.
psql -XAtq <<'SQL'
create table numbers as select i, i * 7919 % 100003 as n, repeat(chr(97 + i % 26), i % 200) as text
  from generate_series(1, 200000) i;
create index on numbers (n); create index on numbers (text);
set work_mem = '1MB'; set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0;
select md5(string_agg(n || text, ',' order by n, i)) from numbers;
select count(*), sum(a.i::bigint * b.i) from numbers a join numbers b on a.n = b.n;
select text, count(*) from numbers group by text order by 2 desc, 1 limit 3;
SQL
# pg_dump makes up a new word for its \restrict every time.
dump() { pg_dump "$@" | grep -vE '^\\(un)?restrict '; }
dump --table=numbers > numbers.sql
dump > "$SCRATCH/before.sql"
createdb again
psql -Xq -d again -f "$SCRATCH/before.sql" > /dev/null
dump -d again > "$SCRATCH/after.sql"
cmp "$SCRATCH/before.sql" "$SCRATCH/after.sql" && echo 'restored what was dumped'
pg_ctl -w -m fast stop > /dev/null
pg_controldata | grep '^Database cluster state'
pg_checksums --check | grep -E '^Bad|^Data'
grep -E 'PANIC|FATAL|WARNING|terminated by signal' "$SCRATCH/log" || echo 'nothing amiss logged'
