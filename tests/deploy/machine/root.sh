#!/usr/bin/env bash
# root.sh DIR: a disk with a small Debian, its kernel and initrd, in DIR. tests/deploy/machine.rs starts them in QEMU.
#
# It is this machine's release, whose C library the program under test is linked with. systemd runs in QEMU alone: never
# with files of this machine in its reach.
set -euo pipefail
dir=$1
. /etc/os-release
packages=(
  systemd-sysv udev kmod linux-image-cloud-amd64 initramfs-tools init-system-helpers
  vsftpd dnsmasq-base curl openssl logrotate iproute2 procps
)
rm -rf "$dir"
mkdir -p "$dir"
mmdebstrap --quiet --mode=root --variant=essential --include="$(IFS=,; echo "${packages[*]}")" \
  --aptopt='APT::Install-Recommends "false"' --dpkgopt='path-exclude=/usr/share/man/*' \
  "$VERSION_CODENAME" "$dir/root"

# What the test gives it is a tar on its second disk; what comes of it goes to its second serial line.
cat > "$dir/root/etc/systemd/system/checks.service" <<'UNIT'
[Unit]
After=multi-user.target
[Service]
Type=exec
ExecStartPre=/bin/mkdir -p /checks
ExecStartPre=/bin/tar -x -C /checks -f /dev/vdb
ExecStart=/bin/bash /checks/inside.sh
StandardOutput=file:/dev/ttyS1
StandardError=file:/dev/ttyS1
[Install]
WantedBy=multi-user.target
UNIT
systemctl --root="$dir/root" enable --quiet checks.service

cp "$dir"/root/boot/vmlinuz-* "$dir/vmlinuz"
cp "$dir"/root/boot/initrd.img-* "$dir/initrd.img"
mke2fs -q -t ext4 -d "$dir/root" "$dir/disk" 800M
rm -rf "$dir/root"
cp "$0" "$dir/"
