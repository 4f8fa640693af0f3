#!/bin/sh
# The routes for tproxy.nft: what it marks is delivered on this machine, whatever address it is for.
# At boot, before ftp-alg: as `ExecStartPre=+/etc/ftp-alg/tproxy-routes.sh` of its unit, say.
set -e
for family in -4 -6; do
  ip $family rule show fwmark 1 | grep -q 'lookup 100' || ip $family rule add fwmark 1 lookup 100
  ip $family route replace local default dev lo table 100
done
