#!/usr/bin/env bash
# torch 2.14.1: torch.export.save puts the example input's values into the .pt2 file.
#
# Guessed before it was run: an exported program holds code, weights and the shapes of its inputs;
# the tensors it was traced with are gone.
# Seen: they are stored, value by value, as data/sample_inputs/model.pt, and come back as
# `example_inputs` of the loaded program. A program traced with a real image or text gives it to
# everyone who gets the file, and large examples make small models large. Tracing with a constant of
# the same shape, or clearing `_example_inputs` before saving, leaves nothing of them.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.14.1 numpy

cat > "$work/example.py" <<'PY'
import io
import warnings
import zipfile

import torch
from torch import nn

warnings.simplefilter("ignore")
torch.manual_seed(0)
layer, secret = nn.Linear(1000, 1).eval(), torch.rand(50, 1000)


def saved(program):
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()


def holds(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        packed = b"".join(archive.read(name) for name in archive.namelist())
    return secret[7].numpy().tobytes() in packed


batch = ({0: torch.export.Dim("batch")},)
program = torch.export.export(layer, (secret,), dynamic_shapes=batch)
content = saved(program)
(found,), _ = torch.export.load(io.BytesIO(content)).example_inputs
print("the example's values are in the file:", holds(content))
print("they come back when it is loaded:", torch.equal(found, secret))
print("weights are 4 kB; the file is larger than 200 kB:", len(content) > 200_000)
program._example_inputs = None
print("cleared before saving, they are in the file:", holds(saved(program)))
grey = torch.export.export(layer, (torch.zeros(2, 1000),), dynamic_shapes=batch)
print("with another example, they are in the file:", holds(saved(grey)))
PY

"$work/venv/bin/python" "$work/example.py" | tee "$work/seen.txt"
diff "$work/seen.txt" - <<'SEEN'
the example's values are in the file: True
they come back when it is loaded: True
weights are 4 kB; the file is larger than 200 kB: True
cleared before saving, they are in the file: False
with another example, they are in the file: False
SEEN
