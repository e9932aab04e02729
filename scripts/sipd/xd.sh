#!/usr/bin/env bash
# SiPD, one dataset to the others: bash scripts/sipd/xd.sh DATASET SEED [SHOTS] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" xd SiPD "$@"
