# shellcheck shell=bash
# title: nginx: two workers serving files under wrk for 5 s
set -e -o pipefail
www=$SCRATCH/www
mkdir -p "$www" "$SCRATCH/bodies" "$SCRATCH/nginx"
chmod 755 "$SCRATCH" "$www"
for size in 0 1 100 4095 4096 4097 65536 1000000 5000000; do
  perl -e 'srand $ARGV[0]; print map { chr 32 + rand 95 } 1 .. $ARGV[0]' "$size" > "$www/$size"
done
# The port is the first free one from a fixed number on; it is in nothing that is compared.
port=18080
while (exec 3<>"/dev/tcp/127.0.0.1/$port") 2> /dev/null; do port=$(( port + 1 )); done
cat > "$SCRATCH/nginx.conf" <<EOF
daemon off;
user www-data;
worker_processes 2;
pid $SCRATCH/nginx/pid;
error_log $SCRATCH/nginx/error.log warn;
events { worker_connections 512; }
http {
  access_log $SCRATCH/nginx/access.log;
  client_body_temp_path $SCRATCH/nginx/body;
  proxy_temp_path $SCRATCH/nginx/proxy;
  fastcgi_temp_path $SCRATCH/nginx/fastcgi;
  uwsgi_temp_path $SCRATCH/nginx/uwsgi;
  scgi_temp_path $SCRATCH/nginx/scgi;
  gzip_types *; gzip_min_length 1000;
  server {
    listen 127.0.0.1:$port;
    root $www;
    location /sent/ { alias $www/; sendfile on; }
    location /packed/ { alias $www/; gzip on; }
  }
}
EOF
fetch() {
  curl -sS -o "$SCRATCH/bodies/body" -w '%{http_code} %{size_download} ' --compressed "http://127.0.0.1:$port/$1"
  echo "$1 $(sha256sum < "$SCRATCH/bodies/body")"
}
load() {
  wrk -t 2 -c 40 -d "$2" "http://127.0.0.1:$port/$1" > "$SCRATCH/wrk"
  # Figures are left out; what wrk says of errors is not.
  grep -E 'Socket errors|Non-2xx' "$SCRATCH/wrk" || echo "no errors"
  awk '/requests in/ { print ($1 > 100) ? "answered" : "only " $1 " answers" }' "$SCRATCH/wrk"
}

nginx -e stderr -c "$SCRATCH/nginx.conf" &
until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2> /dev/null; do sleep 0.05; done
for prefix in '' sent/ packed/; do
  for size in 0 1 100 4095 4096 4097 65536 1000000 5000000; do fetch "$prefix$size"; done
done
fetch nothing-here
load 4096 2s
load sent/65536 1s
load packed/65536 2s
# Workers are replaced while nobody waits, and answers stay what they were.
kill -HUP %1; sleep 0.3
fetch packed/1000000
fetch 5000000
kill -QUIT %1
wait %1; echo "nginx: $?"
grep -v "No such file" "$SCRATCH/nginx/error.log" || echo "nothing else logged"
