#!/usr/bin/env bash
# KgCoOp, base to new classes: bash scripts/kgcoop/base2new.sh DATASET SEED [SHOTS] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" base2new KgCoOp "$@"
