#!/usr/bin/env bash
# FERD at the scale of CIFAR-10 on one GPU: a ResNet-18 teacher by PGD-AT, a student of it without
# data, both scored under AutoAttack. Killed, it continues where it was.
# Usage: scripts/real_scale.sh DATA_DIR WORK_DIR [STUDENT] [DATASET]
set -euo pipefail
data=$1 work=$2 student=${3:-resnet18} dataset=${4:-cifar10}
here=$(cd "$(dirname "$0")/.." && pwd)
ferd-train teacher --recipe cifar10-resnet18 --set dataset="$dataset" --set precision=bfloat16 \
    --data-dir "$data" --out "$work/teacher"
ferd-train student --teacher "$work/teacher/teacher.safetensors" --student "$student" \
    --recipe ferd-cifar10 --out "$work/$student" --score --dataset "$dataset" --data-dir "$data"
# Half precision, to share them.
for network in teacher/teacher "$student/student"; do
    python "$here/scripts/halve_network.py" "$work/$network.safetensors" "$work/$network-half.safetensors"
    sha256sum "$work/$network-half.safetensors"
done
