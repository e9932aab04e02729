#!/usr/bin/env bash
# ZeroshotCLIP2, base to new classes: bash scripts/zsclip2/base2new.sh DATASET SEED [SHOTS] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" base2new ZeroshotCLIP2 "$@"
