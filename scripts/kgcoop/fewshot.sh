#!/usr/bin/env bash
# KgCoOp, few shots of all classes: bash scripts/kgcoop/fewshot.sh DATASET SEED [SHOTS,SHOTS,...] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" fewshot KgCoOp "$@"
