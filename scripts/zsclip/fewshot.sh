#!/usr/bin/env bash
# ZeroshotCLIP, few shots of all classes: bash scripts/zsclip/fewshot.sh DATASET SEED [SHOTS,SHOTS,...] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" fewshot ZeroshotCLIP "$@"
