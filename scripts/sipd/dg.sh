#!/usr/bin/env bash
# SiPD, one dataset to its shifted versions: bash scripts/sipd/dg.sh DATASET SEED [SHOTS] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" dg SiPD "$@"
