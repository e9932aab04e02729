#!/usr/bin/env bash
# SiPD, base to new classes: bash scripts/sipd/base2new.sh DATASET SEED [SHOTS] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" base2new SiPD "$@"
