#!/bin/sh
# traced.sh FTP_ALG TRACE: a download, an upload and a listing, passive and active, through ftp-alg as deploy/systemd has it
# as to user, capabilities and no-new-privileges. The system calls are in TRACE. In a network namespace of its own
# (`unshare --net`), where ports 21 are free; what it starts, it ends.
set -eu
ip link set lo up
dir=$(mktemp -d)
trap 'kill $server $proxy 2>/dev/null; wait; rm -rf "$dir"' EXIT
server= proxy=
mkdir "$dir/files"
cat > "$dir/proxy.yaml" <<X
landlock: true
listeners:
  - name: ftp
    bind: "127.0.0.1:21"
    upstream: "localhost:2121"
    client: { address_map: [ { peers: any, announce: local } ], data_ports: 20000-20020, source_port: 20 }
X
chmod 755 "$dir"
head -c 3000000 /dev/urandom > "$dir/files/down"
/usr/bin/python3 -m pyftpdlib -i 127.0.0.1 -p 2121 -d "$dir/files" -w >"$dir/server.log" 2>&1 &
server=$!
keep=-all,+net_bind_service
strace -f -qq -o "$2" setpriv --reuid 65534 --regid 65534 --clear-groups --no-new-privs \
  --inh-caps $keep --ambient-caps $keep --bounding-set $keep "$1" run --config "$dir/proxy.yaml" >"$dir/log" 2>&1 &
proxy=$!
fetch() { curl --silent --show-error --fail --max-time 20 "$@"; }
tries=0
until fetch ftp://127.0.0.1/ >/dev/null 2>&1; do
  tries=$((tries + 1))
  [ $tries -lt 100 ] || { cat "$dir/log" "$dir/server.log" >&2; exit 1; }
  sleep 0.1
done
for mode in --ftp-pasv --ftp-port=-; do
  [ "$mode" = --ftp-pasv ] || mode="--ftp-port -"
  # shellcheck disable=SC2086
  { fetch $mode -o "$dir/got" ftp://127.0.0.1/down && fetch $mode -T "$dir/files/down" ftp://127.0.0.1/up; } ||
    { cat "$dir/log" >&2; exit 1; }
  cmp "$dir/files/down" "$dir/got"
  cmp "$dir/files/down" "$dir/files/up"
  rm "$dir/got" "$dir/files/up"
done
# SIGTERM for the program, not for strace, which would leave it.
pid=$(sed -n 's/^\([0-9]*\) *execve("[^"]*ftp-alg".*/\1/p' "$2" | tail -1)
kill -TERM "$pid"
wait "$proxy"
proxy=
