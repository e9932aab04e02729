#!/usr/bin/env bash
# ZeroshotCLIP2, few shots of all classes: bash scripts/zsclip2/fewshot.sh DATASET SEED [SHOTS,SHOTS,...] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" fewshot ZeroshotCLIP2 "$@"
