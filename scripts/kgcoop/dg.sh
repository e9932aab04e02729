#!/usr/bin/env bash
# KgCoOp, one dataset to its shifted versions: bash scripts/kgcoop/dg.sh DATASET SEED [SHOTS] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" dg KgCoOp "$@"
