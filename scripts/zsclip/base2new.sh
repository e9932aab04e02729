#!/usr/bin/env bash
# ZeroshotCLIP, base to new classes: bash scripts/zsclip/base2new.sh DATASET SEED [SHOTS] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" base2new ZeroshotCLIP "$@"
