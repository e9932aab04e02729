#!/usr/bin/env bash
# ZeroshotCLIP, one dataset to the others: bash scripts/zsclip/xd.sh DATASET SEED [SHOTS] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" xd ZeroshotCLIP "$@"
