#!/usr/bin/env bash
# MoPD, one dataset to the others: bash scripts/mopd/xd.sh DATASET SEED [SHOTS] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" xd MoPD "$@"
