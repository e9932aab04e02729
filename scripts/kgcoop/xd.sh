#!/usr/bin/env bash
# KgCoOp, one dataset to the others: bash scripts/kgcoop/xd.sh DATASET SEED [SHOTS] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" xd KgCoOp "$@"
