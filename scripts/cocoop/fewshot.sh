#!/usr/bin/env bash
# CoCoOp, few shots of all classes: bash scripts/cocoop/fewshot.sh DATASET SEED [SHOTS,SHOTS,...] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" fewshot CoCoOp "$@"
