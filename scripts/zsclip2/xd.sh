#!/usr/bin/env bash
# ZeroshotCLIP2, one dataset to the others: bash scripts/zsclip2/xd.sh DATASET SEED [SHOTS] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" xd ZeroshotCLIP2 "$@"
