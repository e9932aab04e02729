#!/usr/bin/env bash
# MoPD, base to new classes: bash scripts/mopd/base2new.sh DATASET SEED [SHOTS] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" base2new MoPD "$@"
