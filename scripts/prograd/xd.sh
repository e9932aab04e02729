#!/usr/bin/env bash
# ProGrad, one dataset to the others: bash scripts/prograd/xd.sh DATASET SEED [SHOTS] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" xd ProGrad "$@"
