#!/usr/bin/env bash
# Start PostgreSQL, Redis and RabbitMQ on 127.0.0.1 at their usual ports for the tests.
# Nothing is done for one that answers; a missing one is installed from Debian's packages (needs root).
set -euo pipefail

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

await() { # name port
  for _ in $(seq 300); do
    if answers "$2"; then
      echo "$1 answers on 127.0.0.1:$2"
      return
    fi
    sleep 0.2
  done
  echo "$1 did not answer on 127.0.0.1:$2 within 60 s" >&2
  return 1
}

refreshed=no
install() { # package...
  export DEBIAN_FRONTEND=noninteractive
  if [ "$refreshed" = no ]; then
    apt-get update -qq
    refreshed=yes
  fi
  apt-get install -qq -y --no-install-recommends "$@" </dev/null >/dev/null
}

# A cluster of the machine's own that stands for the port is started as it is; else one is made
# that asks no password on loopback.
start_postgresql() {
  if ! command -v pg_createcluster >/dev/null; then
    install postgresql-common
    echo "create_main_cluster = false" >>/etc/postgresql-common/createcluster.conf
  fi
  ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || install postgresql
  local cluster
  cluster=$(pg_lsclusters --no-header | awk '$3 == 5432 {print $1, $2; exit}')
  if [ -z "$cluster" ]; then
    cluster="$(ls /usr/lib/postgresql | sort -V | tail -n 1) headgate"
    # shellcheck disable=SC2086 # two words: version and name
    pg_createcluster $cluster --port 5432 -- --auth=trust >/dev/null
  fi
  # shellcheck disable=SC2086
  pg_ctlcluster --skip-systemctl-redirect $cluster start
}

start_redis() {
  command -v redis-server >/dev/null || install redis-server
  answers 6379 || redis-server --daemonize yes --bind 127.0.0.1 --port 6379 --save "" --appendonly no \
    --dir /var/lib/redis >/dev/null
}

start_rabbitmq() {
  command -v rabbitmq-server >/dev/null || install rabbitmq-server
  answers 5672 || rabbitmq-server -detached 2>/dev/null
}

answers 5432 || start_postgresql
answers 6379 || start_redis
answers 5672 || start_rabbitmq
await PostgreSQL 5432
await Redis 6379
await RabbitMQ 5672
