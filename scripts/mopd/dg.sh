#!/usr/bin/env bash
# MoPD, one dataset to its shifted versions: bash scripts/mopd/dg.sh DATASET SEED [SHOTS] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" dg MoPD "$@"
