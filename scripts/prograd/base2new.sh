#!/usr/bin/env bash
# ProGrad, base to new classes: bash scripts/prograd/base2new.sh DATASET SEED [SHOTS] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" base2new ProGrad "$@"
