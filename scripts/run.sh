#!/usr/bin/env bash
# Shared by scripts/<method>/<protocol>.sh: PROTOCOL TRAINER DATASET SEED [SHOTS] [KEY VALUE ...]
# Environment: DATA (datasets), OUTPUT (runs), PYTHON, CONFIG (stem under configs/trainers/TRAINER), TAG,
# TARGETS (xd and dg: datasets to test on, as digits,shapes).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
protocol=$1 trainer=$2
shift 2
if [ $# -lt 2 ]; then
    echo "usage: $protocol.sh DATASET SEED [SHOTS] [KEY VALUE ...], for example: shapes 1" >&2
    exit 2
fi
dataset=$1 seed=$2
shift 2
shots=
if [[ ${1:-} =~ ^[0-9]+(,[0-9]+)*$ ]]; then
    shots=$1
    shift
fi
python=${PYTHON:-}
if [ -z "$python" ]; then
    python=python3
    [ -x "$root/.venv/bin/python" ] && python=$root/.venv/bin/python
fi
# what lies in the working folder is never imported: -P, and no empty entry, which would be that folder
paths=$root
IFS=: read -ra known <<< "${PYTHONPATH:-}"
for path in ${known[@]+"${known[@]}"}; do
    paths+=${path:+:$path}
done
PYTHONPATH=$paths exec "$python" -P -m tools.protocol "$protocol" \
    --trainer "$trainer" --dataset "$dataset" --seed "$seed" --shots "$shots" --targets "${TARGETS:-}" \
    --data "${DATA:-$root/data}" --output "${OUTPUT:-$root/output}" \
    --config "${CONFIG:-}" --tag "${TAG:-}" -- "$@"
