#!/usr/bin/env bash
# SiPD, few shots of all classes: bash scripts/sipd/fewshot.sh DATASET SEED [SHOTS,SHOTS,...] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" fewshot SiPD "$@"
