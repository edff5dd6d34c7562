#!/usr/bin/env bash
# A microscopist's day: a stack with calibration goes in, the same stack comes out, only cleaner.
#
#   examples/microscopy.sh [STACK.tif [FOLDER FOR THE RESULTS]]
#
# Without arguments a small z-stack is made of the example micrograph, as ImageJ writes it.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
results=${2:-microscopy_results}
stack=${1:-$results/stack.tif}
mkdir -p "$results"

if [ $# -eq 0 ]; then
    # 4 slices of 16 bits, 0.2 micrometers a pixel, 1 micrometer apart, of 12 bits and not 16.
    python - "$here/data/brain_two_photon.png" "$stack" <<'PYTHON'
import sys
import numpy as np
import tifffile
from PIL import Image
plane = np.asarray(Image.open(sys.argv[1])).astype(np.uint16) * 16
slices = np.stack([plane[y : y + 144, 100:244] for y in (60, 120, 180, 240)])
calibration = {"axes": "ZYX", "spacing": 1.0, "unit": "um"}
tifffile.imwrite(sys.argv[2], slices, imagej=True, resolution=(5, 5), metadata=calibration)
PYTHON
fi

# 1. What is in the file, and what noise: counting photons shows as variance that grows with light.
denoise info "$stack"

# 2. Denoise it within a limit of memory; the page shows the middle slice.
rm -f "$results/report.html"
denoise "$stack" -o "$results/clean.tif" --max-memory 4GB --report "$results/report.html" --overwrite

# 3. Nothing but the noise has changed: type, axes and calibration are those of the input.
python - "$stack" "$results/clean.tif" <<'PYTHON'
import sys
import numpy as np
import tifffile

def content(path):
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[0]
        scale = [page.tags[name].value for name in ("XResolution", "YResolution")]
        metadata = tif.imagej_metadata or {}
        return tif.asarray(), tif.series[0].axes, scale, metadata.get("spacing")

(before, *said), (after, *said_after) = (content(path) for path in sys.argv[1:])
assert (before.shape, before.dtype) == (after.shape, after.dtype)
assert said == said_after, (said, said_after)
change = after.mean() / before.mean() - 1
print(f"{before.shape} {before.dtype}, axes {said[0]}: kept; mean brightness {change:+.2%}")
assert abs(change) < 0.02
PYTHON

# 4. A time-lapse in many files is shared by the jobs of a cluster; here two take turns.
mkdir -p "$results/frames"
python - "$stack" "$results/frames" <<'PYTHON'
import sys
import tifffile
for index, plane in enumerate(tifffile.imread(sys.argv[1])[:3]):
    tifffile.imwrite(f"{sys.argv[2]}/frame_{index:03}.tif", plane)
PYTHON
for shard in 1 2; do
    denoise "$results/frames" -o "$results/frames_clean" --shard "$shard/2" --method none --overwrite
done
test "$(find "$results/frames_clean" -name 'frame_*.tif' | wc -l)" -eq 3
echo "look at $results/report.html"
