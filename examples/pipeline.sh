#!/usr/bin/env bash
# A pipeline engineer's day: bytes in, bytes out, exit codes, JSON, batch jobs.
#
#   examples/pipeline.sh [FOLDER FOR THE RESULTS]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
results=${1:-pipeline_results}
mkdir -p "$results"

# 1. A compressed microscopy stack through a pipe: nothing but the image on standard output. tee
#    keeps it, sha256sum signs what was kept, and python looks at the same bytes at the end.
python - "$here/data/brain_two_photon.png" <<'PYTHON' | gzip > "$results/stack.tif.gz"
import io
import sys
import numpy as np
import tifffile
from PIL import Image
plane = np.asarray(Image.open(sys.argv[1])).astype(np.uint16) * 16
slices = np.stack([plane[60:220, 100:260], plane[200:360, 100:260]])
file = io.BytesIO()
tifffile.imwrite(file, slices, imagej=True, metadata={"axes": "ZYX"})
sys.stdout.buffer.write(file.getvalue())
PYTHON
gzip -dc "$results/stack.tif.gz" | denoise - -o - --method none |
    tee "$results/clean.tif" |
    python -c 'import io, sys, tifffile
stack = tifffile.imread(io.BytesIO(sys.stdin.buffer.read()))
print(stack.shape, stack.dtype, "from the pipe")
assert stack.shape == (2, 160, 160) and stack.dtype == "uint16"'
(cd "$results" && sha256sum clean.tif > clean.tif.sha256 && sha256sum --check --quiet clean.tif.sha256)

# 2. Another format on the way out.
denoise - -o - --format png --method none < "$here/data/osprey.png" > "$results/osprey.png"
file -b "$results/osprey.png" 2> /dev/null || head -c 8 "$results/osprey.png" | od -c | head -n 1

# 3. One line of JSON an image, for whatever comes next.
denoise "$here/data/brain_two_photon.png" -o "$results/brain.png" --method none --json --quiet \
    --overwrite > "$results/log.jsonl"
python -c 'import json, sys
for line in sys.stdin:
    record = json.loads(line)
    print(record["output"], record["dtype"], "in", record["seconds"], "s")' < "$results/log.jsonl"

# 4. Where something fails, the exit code says so and the rest is done: 1 for a bad file, 2 for
#    wrong usage.
mkdir -p "$results/inbox"
cp "$here/data/brain_two_photon.png" "$results/inbox/good.png"
echo "not an image" > "$results/inbox/bad.png"
code=0
denoise "$results/inbox" -o "$results/outbox" --method none --overwrite 2> "$results/errors.txt" || code=$?
test "$code" -eq 1
test -f "$results/outbox/good.png"
grep -q "bad.png: not a picture" "$results/errors.txt"

# 5. Interrupted or killed work is finished by the same line; what is done is not done again.
code=0
denoise "$results/inbox" -o "$results/outbox" --method none --skip-existing --quiet 2> /dev/null || code=$?
test "$code" -eq 1

# 6. A reader that has seen enough is no error.
denoise "$here/data/osprey.png" -o - --method none --quiet | head -c 8 > "$results/magic" || true
test "$(wc -c < "$results/magic")" -eq 8
echo "all in $results"
