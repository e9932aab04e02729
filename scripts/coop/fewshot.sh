#!/usr/bin/env bash
# CoOp, few shots of all classes: bash scripts/coop/fewshot.sh DATASET SEED [SHOTS,SHOTS,...] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" fewshot CoOp "$@"
