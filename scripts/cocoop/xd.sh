#!/usr/bin/env bash
# CoCoOp, one dataset to the others: bash scripts/cocoop/xd.sh DATASET SEED [SHOTS] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" xd CoCoOp "$@"
