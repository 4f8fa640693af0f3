#!/bin/bash
# Runs as root in the machine that tests/deploy/machine.rs starts, with the package beside it: the service under a
# running systemd. Says each step, ends at the first that fails, and stops the machine.
# shellcheck disable=SC2086 # options of curl
set -euo pipefail
cd /checks

step() { now=$*; echo "$(cut -d' ' -f1 /proc/uptime) $now"; }
ended() {
  local code=$?
  if [ $code != 0 ]; then
    echo "FAILED: $now"
    journalctl --no-pager -o short-monotonic -b -n 40 -u ftp-alg.service -u ftp-alg.socket
  fi
  systemctl --no-block poweroff 2> /dev/null
}
trap ended EXIT
fail() { echo "$*"; exit 1; }
property() { systemctl show --value -p "$1" "${2:-ftp-alg.service}"; }
is() { # is PROPERTY VALUE [UNIT]
  local found
  found=$(property "$1" "${3:-ftp-alg.service}")
  [ "$found" = "$2" ] || fail "$1 is $found, not $2"
}
fetch() { curl --silent --show-error --fail --max-time 60 "$@"; }
transfers() { # up and down: passive, active, IPv6, TLS
  local how host options
  for how in 127.0.0.1 "127.0.0.1 --ftp-port -" "[::1]" "127.0.0.1 --ssl-reqd --insecure"; do
    read -r host options <<< "$how"
    fetch $options -T file "ftp://$host/pub/up"
    fetch $options -o got "ftp://$host/pub/up"
    cmp file got
    rm got /srv/ftp/pub/up
  done
}
knock() { # a client every moment, until the file `enough` is there: what each has heard goes to the file `heard`
  local reply
  rm -f enough
  while [ ! -e enough ]; do
    reply=refused
    if exec 3<>/dev/tcp/127.0.0.1/21; then
      reply=silence
      read -r -t 60 reply <&3 || true
      exec 3>&-
    fi
    echo "${reply:0:3}"
    sleep 0.2
  done > heard 2>/dev/null
}
drop_in() { # drop_in NAME=VALUE: a setting of the unit, until `rm -r $runtime`
  mkdir -p $runtime
  printf '[Service]\n%s\n' "$1" > $runtime/checks.conf
  systemctl daemon-reload
  systemctl restart ftp-alg
}
runtime=/run/systemd/system/ftp-alg.service.d

first_boot() {
  step "the server and its name"
  cat > /etc/vsftpd.conf <<'CONF'
listen=YES
listen_port=2121
anonymous_enable=YES
write_enable=YES
anon_upload_enable=YES
anon_other_write_enable=YES
anon_world_readable_only=NO
anon_umask=022
secure_chroot_dir=/var/run/vsftpd/empty
seccomp_sandbox=NO
CONF
  mkdir -p /srv/ftp/pub
  chown ftp /srv/ftp/pub
  head -c 3000000 /dev/urandom > file
  cp file /srv/ftp/pub/down
  systemctl restart vsftpd
  cat > /etc/systemd/system/names.service <<'UNIT'
[Unit]
Before=nss-lookup.target
Wants=nss-lookup.target
[Service]
ExecStart=/usr/sbin/dnsmasq --keep-in-foreground --no-resolv --no-hosts --address=/files.test/127.0.0.1
[Install]
WantedBy=multi-user.target
UNIT
  systemctl enable --now --quiet names
  rm -f /etc/resolv.conf
  echo nameserver 127.0.0.1 > /etc/resolv.conf

  step "the package is installed, and neither enabled nor started"
  dpkg --install ftp-alg.deb > dpkg.log 2>&1 || fail "$(cat dpkg.log)"
  for unit in ftp-alg.service ftp-alg.socket; do
    is UnitFileState disabled $unit
    is ActiveState inactive $unit
  done

  step "it starts, with a name for the server, TLS, a transfer log and the admin interface"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=ftp.test -days 2 \
    -keyout /etc/ftp-alg/privkey.pem -out /etc/ftp-alg/fullchain.pem 2> /dev/null
  chown root:ftp-alg /etc/ftp-alg/privkey.pem
  chmod 640 /etc/ftp-alg/privkey.pem
  cat > /etc/ftp-alg/proxy.yaml <<'CONF'
log: { transfers: /var/log/ftp-alg/xferlog }
admin: { bind: 127.0.0.1:9121 }
listeners:
  - name: ftp
    bind: ["0.0.0.0:21", "[::]:21"]
    upstream: files.test:2121
    client: { address_map: [{ peers: any, announce: local }], data_ports: 20000-20020, source_port: 20 }
    tls: { client: { mode: terminate, certificate: /etc/ftp-alg/fullchain.pem, key: /etc/ftp-alg/privkey.pem } }
CONF
  systemctl start ftp-alg
  is ActiveState active
  is StatusText serving
  started=$(property MainPID)

  step "it is confined"
  user=$(id -u ftp-alg)
  for line in "Uid:.$user.$user.$user.$user" "NoNewPrivs:.1" "Seccomp:.2" "CapEff:.0000000000000400"; do
    grep -qx "$line" "/proc/$started/status" || fail "$(cat "/proc/$started/status")"
  done
  within() { nsenter --target "$started" --mount "$@"; }
  for path in /etc/ftp-alg /usr/bin /var/lib; do
    ! within touch $path/written 2> /dev/null || fail "$path can be written"
  done
  within touch /var/log/ftp-alg/written
  within touch /tmp/written
  [ ! -e /tmp/written ] || fail "it has the machine's /tmp"
  within test ! -e /dev/vda || fail "it has the machine's disks"
  systemd-analyze security --no-pager --threshold="$1" ftp-alg.service > security.log || fail "$(cat security.log)"
  tail -1 security.log

  step "transfers work, and are in the transfer log"
  transfers
  [ "$(grep -c ' up b _ [io] a .* c$' /var/log/ftp-alg/xferlog)" = 8 ] || fail "$(cat /var/log/ftp-alg/xferlog)"
  [ "$(stat -c %U /var/log/ftp-alg/xferlog)" = ftp-alg ]
  fetch -o metrics http://127.0.0.1:9121/metrics
  grep -q '^ftp_alg_sessions_total' metrics

  step "logrotate renames the transfer log, and the service opens it anew"
  logrotate --force /etc/logrotate.d/ftp-alg
  fetch -o /dev/null ftp://127.0.0.1/pub/down
  [ "$(wc -l < /var/log/ftp-alg/xferlog)" = 1 ]

  step "a reload takes effect, and one that is refused says why and changes nothing"
  good=$(cat /etc/ftp-alg/proxy.yaml)
  sed -i 's/20000-20020/20005-20020/' /etc/ftp-alg/proxy.yaml
  systemctl reload ftp-alg
  transfers
  sed -i 's/local/nonsense!/' /etc/ftp-alg/proxy.yaml
  ! systemctl reload ftp-alg 2> /dev/null || fail "a mistake was taken"
  journalctl -b -u ftp-alg | grep 'cannot reload.*nonsense!' > /dev/null || fail "the journal does not say why"
  is ActiveState active
  is MainPID "$started"
  transfers
  echo "$good" > /etc/ftp-alg/proxy.yaml
  ftp-alg reload

  step "a stop lets a transfer finish"
  fetch --limit-rate 400k -o got ftp://127.0.0.1/pub/down &
  transfer=$!
  sleep 2
  systemctl stop ftp-alg
  wait $transfer
  cmp file got
  is Result success

  # It holds the one address, ftp-alg binds the other as before.
  step "with the socket, restarts and an update refuse nobody"
  systemctl enable --now --quiet ftp-alg.socket
  knock &
  knocking=$!
  sleep 2
  [ "$(property ActiveState)" = active ] || fail "a client does not start it"
  for _ in 1 2 3; do systemctl restart ftp-alg; sleep 1; done
  started=$(property MainPID)
  dpkg --install ftp-alg.deb > dpkg.log 2>&1 || fail "$(cat dpkg.log)"
  [ "$(property MainPID)" != "$started" ] || fail "the update has not restarted it"
  sleep 2
  touch enough
  wait $knocking
  [ "$(sort -u heard)" = 220 ] || fail "$(sort heard | uniq -c)"
  transfers

  step "with a mistake in proxy.yaml the socket gives up, and is started again with the service"
  echo nonsense > /etc/ftp-alg/proxy.yaml
  ! systemctl restart ftp-alg 2> /dev/null || fail "a mistake was taken"
  knock &
  knocking=$!
  for _ in {1..30}; do
    [ "$(property ActiveState ftp-alg.socket)" != failed ] || break
    sleep 1
  done
  is Result service-start-limit-hit ftp-alg.socket
  touch enough
  wait $knocking
  echo "$good" > /etc/ftp-alg/proxy.yaml
  systemctl reset-failed ftp-alg.service ftp-alg.socket
  systemctl start ftp-alg.socket ftp-alg.service
  transfers

  step "its watchdog is fed; one that is stuck is started again"
  is WatchdogUSec 30s
  drop_in WatchdogSec=4s
  started=$(property MainPID)
  sleep 10
  is MainPID "$started"
  kill -STOP "$started"
  for _ in {1..30}; do
    sleep 1
    [ "$(property MainPID)" = "$started" ] || break
  done
  sleep 3
  is ActiveState active
  is NRestarts 1
  transfers

  step "with the capability that deploy/README.md adds for TPROXY it has both"
  drop_in $'AmbientCapabilities=CAP_NET_ADMIN\nCapabilityBoundingSet=CAP_NET_ADMIN'
  grep -q '^CapEff:.*1400$' "/proc/$(property MainPID)/status" || fail "it has others"

  step "no system call is refused, those of Landlock neither"
  echo "landlock: true" >> /etc/ftp-alg/proxy.yaml
  drop_in SystemCallErrorNumber=kill
  journalctl -b -u ftp-alg | grep 'the process is held to its' > /dev/null || fail "Landlock is not in force"
  transfers
  systemctl reload ftp-alg
  systemctl stop ftp-alg.socket ftp-alg.service
  is Result success
  rm -r $runtime
  systemctl daemon-reload
  ! journalctl -b | grep -E 'ermission denied|not permitted|status=31' || fail "something was denied"

  step "after a reboot it serves, with the settings of the kernel"
  systemctl enable --quiet ftp-alg
  sysctl --quiet net.ipv4.ip_local_reserved_ports= fs.pipe-user-pages-soft=16384
  chmod 755 /etc/ftp-alg
  touch booted
  trap - EXIT
  systemctl --no-block reboot 2> /dev/null
}

second_boot() {
  step "rebooted"
  ! journalctl -b | grep 'ordering cycle' || fail "the units wait for each other"
  is ActiveState active
  is ActiveState active ftp-alg.socket
  transfers
  grep -v '^#' /usr/lib/sysctl.d/30-ftp-alg.conf | while IFS=' =' read -r name value; do
    [ -z "$name" ] || [ "$(sysctl -n "$name")" = "$value" ] || fail "$name is $(sysctl -n "$name"), not $value"
  done
  [ "$(stat -c '%a %U %G' /etc/ftp-alg)" = "750 root ftp-alg" ]

  step "the package goes"
  dpkg --remove ftp-alg > dpkg.log 2>&1 || fail "$(cat dpkg.log)"
  ! pgrep -x ftp-alg || fail "it still runs"
  ! ss -ltn | grep ':21 ' || fail "its socket still listens"
  [ -e /etc/ftp-alg/proxy.yaml ] && [ -e /var/log/ftp-alg/xferlog ]
  dpkg --purge ftp-alg > dpkg.log 2>&1 || fail "$(cat dpkg.log)"
  [ ! -e /etc/ftp-alg/proxy.yaml ] && [ ! -e /var/log/ftp-alg ]
  ! find /etc/systemd /var/lib/systemd -name 'ftp-alg*' | grep . || fail "left behind"
  echo "all is well"
}

if [ -e booted ]; then second_boot; else first_boot "$(cat exposed-at-most)"; fi
