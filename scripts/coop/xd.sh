#!/usr/bin/env bash
# CoOp, one dataset to the others: bash scripts/coop/xd.sh DATASET SEED [SHOTS] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" xd CoOp "$@"
