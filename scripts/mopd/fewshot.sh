#!/usr/bin/env bash
# MoPD, few shots of all classes: bash scripts/mopd/fewshot.sh DATASET SEED [SHOTS,SHOTS,...] [KEY VALUE ...]
exec bash "$(dirname "$0")/../run.sh" fewshot MoPD "$@"
