#!/usr/bin/env bash
# Train the two packaged networks from Fashion-MNIST (about 45 minutes on 2 cores) and store them in
# half precision. Usage: scripts/make_demo_networks.sh DATA_DIR WORK_DIR
set -euo pipefail
data=$1 work=$2
here=$(cd "$(dirname "$0")/.." && pwd)
for name in resnet8 cnn; do
    ferd-train teacher --recipe "demo-$name" --data-dir "$data" --out "$work/demo-$name"
    python "$here/scripts/halve_network.py" "$work/demo-$name/teacher.safetensors" \
        "$here/ferd_eval/models/demo/$name.safetensors"
done
