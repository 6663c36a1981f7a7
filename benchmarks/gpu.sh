#!/usr/bin/env bash
# PGD-20 on a GPU in each search precision beside torchattacks, in a few minutes:
#     bash benchmarks/gpu.sh > gpu.txt
set -euo pipefail
cd "$(dirname "$0")/.."
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
for arch in resnet18 mobilenetv2 resnet8; do
    for precision in fp32 tf32 bf16 auto; do
        python benchmarks/pgd.py --arch "$arch" --device cuda --images 4096 --batch 1024 \
            --pairs 3 --search-precision "$precision"
    done
done
