#!/usr/bin/env bash
# CoOp, base to new classes: bash scripts/coop/base2new.sh DATASET SEED [SHOTS] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" base2new CoOp "$@"
