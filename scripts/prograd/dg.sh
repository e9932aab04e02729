#!/usr/bin/env bash
# ProGrad, one dataset to its shifted versions: bash scripts/prograd/dg.sh DATASET SEED [SHOTS] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" dg ProGrad "$@"
