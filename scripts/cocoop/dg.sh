#!/usr/bin/env bash
# CoCoOp, one dataset to its shifted versions: bash scripts/cocoop/dg.sh DATASET SEED [SHOTS] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" dg CoCoOp "$@"
