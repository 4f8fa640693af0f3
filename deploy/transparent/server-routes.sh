#!/bin/sh
# On the FTP server, if it runs Linux: its way to the clients leads through ftp-alg's machine. The arguments are that
# machine's addresses in the server's network: IPv4, then IPv6 if the clients use it.
#
# For Windows: route -p add 0.0.0.0 mask 0.0.0.0 172.16.0.10 metric 1, and the same for ::/0 with netsh; remove the
# old default gateway from the interface.
set -eu
ip -4 route replace default via "$1"
[ -z "${2-}" ] || ip -6 route replace default via "$2"
