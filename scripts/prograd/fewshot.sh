#!/usr/bin/env bash
# ProGrad, few shots of all classes: bash scripts/prograd/fewshot.sh DATASET SEED [SHOTS,SHOTS,...] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" fewshot ProGrad "$@"
