#!/usr/bin/env bash
# ZeroshotCLIP, one dataset to its shifted versions: bash scripts/zsclip/dg.sh DATASET SEED [SHOTS] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" dg ZeroshotCLIP "$@"
