#!/bin/sh
# Roles and their passwords, in the container of PostgreSQL: when its data folder is made, and again by
# `docker compose exec --user 999 postgres sh /benchfarm/roles.sh` after an upgrade. Passwords go through psql's standard
# input, not through a command line.
set -eu
secrets=${BENCHFARM_SECRETS:-/run/secrets}
psql --no-psqlrc --username "${POSTGRES_USER:-postgres}" --file "${BENCHFARM_ROLES:-/benchfarm/roles.sql}" postgres
{
  echo '\set ON_ERROR_STOP on'
  for role in farm grafana; do
    printf '\\set password `cat %s/%s-database-password`\n' "$secrets" "$role"
    echo "ALTER ROLE benchfarm_$role PASSWORD :'password';"
  done
} | psql --no-psqlrc --quiet --username "${POSTGRES_USER:-postgres}" postgres
