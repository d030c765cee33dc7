#!/bin/sh
# Puts secrets where benchfarm and libpq want them: into files that only their reader can read. Then runs the command.
set -eu
umask 077
if [ -n "${BENCHFARM_RAY_TOKEN_FILE:-}" ]; then
  cat "$BENCHFARM_RAY_TOKEN_FILE" >"$BENCHFARM_HOME/ray-token.part"
  mv "$BENCHFARM_HOME/ray-token.part" "$BENCHFARM_HOME/ray-token"
fi
if [ -n "${BENCHFARM_DATABASE_PASSWORD_FILE:-}" ]; then
  PGPASSFILE=${BENCHFARM_RUN:-/run/benchfarm}/pgpass
  export PGPASSFILE
  # A line of libpq's password file: any server, port, database and user; in a password, \ and : are escaped.
  printf '*:*:*:*:%s\n' "$(sed 's/[\\:]/\\&/g' "$BENCHFARM_DATABASE_PASSWORD_FILE")" >"$PGPASSFILE"
fi
exec "$@"
