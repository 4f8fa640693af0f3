#!/bin/sh
# On ftp-alg's machine, for `server.source: client`: what transparent.nft has marked is taken in here, whatever address
# it is for. Mark 1 and table 100 are those of the kernel's documentation (Documentation/networking/tproxy.rst); if they
# are taken, change them here and in transparent.nft. Run it at boot, when the network is up; again does no harm.
set -eu

for family in -4 -6; do
  ip "$family" rule del fwmark 1 lookup 100 2>/dev/null || true
  ip "$family" rule add fwmark 1 lookup 100
  ip "$family" route replace local default dev lo table 100
done

# The mark must not take part in the check of source addresses (rp_filter): there it would make every sender a machine
# on lo. 0 is the kernel's default; wg-quick sets it to 1. With 0, rp_filter may be strict (1).
echo 0 > /proc/sys/net/ipv4/conf/all/src_valid_mark

# This machine is the server's gateway. What is not for ftp-alg it forwards; and it must not tell the server of a
# shorter way to a client (an ICMP redirect), which would lead past ftp-alg.
echo 1 > /proc/sys/net/ipv4/ip_forward
echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
for redirects in /proc/sys/net/ipv4/conf/*/send_redirects; do echo 0 > "$redirects"; done
