#!/usr/bin/env bash
# CoOp, one dataset to its shifted versions: bash scripts/coop/dg.sh DATASET SEED [SHOTS] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" dg CoOp "$@"
