#!/bin/sh
# Makes the secrets of compose.yaml beside this script, each a file with 64 random hexadecimal digits. One that is there
# is left as it is. The folder is for its owner only; the files are readable, for each container has a user of its own
# and sees nothing but the files that it is given.
set -eu
cd "$(dirname "$0")"
umask 077
chmod 700 .
for name in postgres-password farm-database-password grafana-database-password grafana-admin-password ray-token; do
  if [ ! -s "$name" ]; then
    od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$name.part"
    chmod 444 "$name.part"
    mv "$name.part" "$name"
    echo "made $name"
  fi
done
