#!/usr/bin/env bash
# torch 2.14.1: torch.load(weights_only=True) and containers that are on the list of safe globals.
#
# Guessed before it was run: a file with a defaultdict or a deque beside the weights opens once these
# types are allowed with torch.serialization.safe_globals.
# Seen: it opens only while they are empty. Items are put only into exactly dict, OrderedDict and
# Counter, and appended only to exactly list, whatever is allowed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q torch==2.14.1 numpy

cat > "$work/load.py" <<'PY'
import io
from collections import Counter, OrderedDict, defaultdict, deque

import torch

beside = {
    "Counter": Counter(a=1),
    "OrderedDict": OrderedDict(a=1),
    "empty defaultdict": defaultdict(list),
    "defaultdict": defaultdict(list, a=[1]),
    "empty deque": deque(),
    "deque": deque([1]),
}
for name, value in beside.items():
    file = io.BytesIO()
    torch.save({"weight": torch.zeros(2), "history": value}, file)
    file.seek(0)
    with torch.serialization.safe_globals([defaultdict, deque, list]):
        try:
            torch.load(file, weights_only=True)
            print(name, "opened")
        except Exception as reason:
            print(name, "refused with", type(reason).__name__)
PY

"$work/venv/bin/python" "$work/load.py" | tee "$work/seen.txt"
diff "$work/seen.txt" - <<'SEEN'
Counter opened
OrderedDict opened
empty defaultdict opened
defaultdict refused with UnpicklingError
empty deque opened
deque refused with UnpicklingError
SEEN
