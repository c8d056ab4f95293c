#!/usr/bin/env bash
# Writes random secrets into infra/.env, which git ignores: compose.yaml reads it, and so does `kubectl create secret`.
set -euo pipefail
cd "$(dirname "$0")"

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

if [[ -e .env ]]; then
    echo "infra/.env exists: move it away first, and change the passwords in the servers too" >&2
    exit 2
fi
umask 077
cat > .env <<EOF
POSTGRES_PASSWORD=$(random)
PREFECT_DATABASE_PASSWORD=$(random)
MLFLOW_DATABASE_PASSWORD=$(random)
PREFECT_AUTH_STRING=operator:$(random)
MLFLOW_ADMIN_PASSWORD=$(random)
MLFLOW_SECRET_KEY=$(random)
S3_ACCESS_KEY=$(random)
S3_SECRET_KEY=$(random)
EOF
echo "infra/.env written"
