#!/usr/bin/env bash
# ZeroshotCLIP2, one dataset to its shifted versions: bash scripts/zsclip2/dg.sh DATASET SEED [SHOTS] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" dg ZeroshotCLIP2 "$@"
