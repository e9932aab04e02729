#!/usr/bin/env bash
# CoCoOp, base to new classes: bash scripts/cocoop/base2new.sh DATASET SEED [SHOTS] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" base2new CoCoOp "$@"
