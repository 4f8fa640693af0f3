#!/usr/bin/env bash
# Installs what the interop tests need: Debian, root. Quick when everything is there already.
# With the argument `compat`, also the further clients and servers of the compatibility table; with `machine`, the
# machine in which the service runs under systemd.
#
# vsftpd, ProFTPD and Pure-FTPd conflict as packages (each provides ftp-server) and would start services, as HAProxy,
# logrotate and Prometheus do (of which promtool is needed):
# they are downloaded and unpacked side by side under target/interop/ instead. Only the libraries that they
# link against are installed.
set -euo pipefail
cd "$(dirname "$0")/.."
root=${CARGO_TARGET_DIR:-target}/interop

fail() { echo "tests/setup.sh: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "network namespaces and apt-get need root; run 'make test' as root, or 'cargo test' for the tests that need neither"
command -v apt-get >/dev/null || fail "this is not a Debian system (no apt-get); run 'cargo test' for the tests that need no outside program"

updated=
update() { # once, and only if something is missing
  [ -n "$updated" ] || apt-get update -qq || fail "apt-get update failed"
  updated=yes
}
quietly() { # the output only when it failed
  local out
  out=$("$@" 2>&1) || { echo "$out" >&2; fail "failed: $*"; }
}
installed() { dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed; }

export DEBIAN_FRONTEND=noninteractive
packages=(
  iproute2 nftables lftp curl openssl inetutils-ftp python3-minimal libpython3-stdlib python3-pyftpdlib python3-openssl
  filezilla xvfb xdotool python3-prometheus-client python3-venv strace systemd dpkg-dev
)
if [ "${1-}" = compat ]; then
  packages+=(tnftp ncftp wget aria2 python3-aioftp)
  command -v node >/dev/null || packages+=(nodejs)
  command -v npm >/dev/null || packages+=(npm)
fi
if [ "${1-}" = machine ]; then packages+=(qemu-system-x86 mmdebstrap e2fsprogs); fi
missing=()
for package in "${packages[@]}"; do
  installed "$package" || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
  echo "installing ${missing[*]}"
  update
  quietly apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

unpack() { # unpack SERVER BINARY PACKAGE...: the packages' files under $root/SERVER
  local server=$1 binary=$2 dir=$root/$1
  shift 2
  local package complete=yes
  for package; do compgen -G "$dir/debs/${package}_*.deb" >/dev/null || complete=; done
  if [ -n "$complete" ] && [ -x "$dir/$binary" ] && ! ldd "$dir/$binary" | grep -q 'not found'; then return; fi
  echo "unpacking $server into $dir"
  update
  rm -rf "$dir"
  mkdir -p "$dir/debs"
  (cd "$dir/debs" && quietly apt-get download -qq -o APT::Sandbox::User=root "$@")
  local deb libraries
  for deb in "$dir"/debs/*.deb; do
    dpkg-deb -x "$deb" "$dir"
    # Names of libraries differ between Debian releases: ask the package.
    libraries=$(dpkg-deb -f "$deb" Depends | tr ',' '\n' | grep -E '^ *lib' | paste -sd, || true)
    [ -z "$libraries" ] || quietly apt-get satisfy -y -qq --no-install-recommends "$libraries"
  done
  [ -x "$dir/$binary" ] || fail "$server: no $binary in the package"
  if ldd "$dir/$binary" | grep 'not found' >&2; then fail "$server: libraries are missing"; fi
}
unpack vsftpd usr/sbin/vsftpd vsftpd
unpack proftpd usr/sbin/proftpd proftpd-core proftpd-mod-crypto
unpack pure-ftpd usr/sbin/pure-ftpd pure-ftpd pure-ftpd-common
unpack haproxy usr/sbin/haproxy haproxy
unpack prometheus usr/bin/promtool prometheus
unpack logrotate usr/sbin/logrotate logrotate

# Validators for the files of deploy/.
validators=$root/validators
if ! cmp -s tests/deploy/requirements.txt "$validators/requirements.txt"; then
  echo "installing the validators of tests/deploy into $validators"
  rm -rf "$validators"
  quietly /usr/bin/python3 -m venv "$validators"
  quietly "$validators/bin/pip" install --quiet -r tests/deploy/requirements.txt
  cp tests/deploy/requirements.txt "$validators/"
fi
# Of cloud-init only the schema: the package itself would run on this machine's next boot.
if [ ! -e "$root/cloud-init/schema.json" ]; then
  echo "unpacking cloud-init's schema into $root/cloud-init"
  update
  rm -rf "$root/cloud-init"
  mkdir -p "$root/cloud-init"
  (cd "$root/cloud-init" && quietly apt-get download -qq -o APT::Sandbox::User=root cloud-init && dpkg-deb -x ./*.deb .)
  cp "$root"/cloud-init/usr/lib/python3/dist-packages/cloudinit/config/schemas/schema-cloud-config-v1.json \
    "$root/cloud-init/schema.json"
fi
if ! cargo deb --version 2>/dev/null | grep -q '3\.8\.0$'; then
  echo "installing cargo-deb"
  # Optimizing it would take longer than it runs.
  quietly cargo install --debug --locked cargo-deb@3.8.0
fi

if [ "${1-}" = compat ] && [ ! -e "$root/basic-ftp/package/package.json" ]; then
  echo "unpacking basic-ftp into $root/basic-ftp"
  mkdir -p "$root/basic-ftp"
  (cd "$root/basic-ftp" && quietly npm pack --silent basic-ftp@5.3.1 && tar xzf basic-ftp-*.tgz)
fi

if [ "${1-}" = machine ] && ! cmp -s tests/deploy/machine/root.sh "$root/machine/root.sh"; then
  echo "making the machine's disk in $root/machine"
  quietly tests/deploy/machine/root.sh "$root/machine"
fi
