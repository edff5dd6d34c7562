#!/usr/bin/env bash
# A photographer's day: look at the noise of a picture, denoise a shoot, look at the result.
#
#   examples/photo.sh [FOLDER OF PHOTOS [FOLDER FOR THE RESULTS]]
#
# Without arguments a small shoot is made of parts of the example photo.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
results=${2:-photo_results}
shoot=${1:-$results/shoot}
mkdir -p "$results"

if [ $# -eq 0 ]; then
    # Two folders, as cards come: a PNG, a JPEG with EXIF, and a file that is broken.
    mkdir -p "$shoot/monday" "$shoot/tuesday"
    python - "$here/data/osprey.png" "$shoot" <<'PYTHON'
import sys
from PIL import Image
photo, shoot = Image.open(sys.argv[1]), sys.argv[2]
photo.crop((200, 80, 392, 224)).save(f"{shoot}/monday/osprey.png")
exif = Image.Exif()
exif[271], exif[272] = "Example", "One"
photo.crop((300, 100, 420, 196)).save(f"{shoot}/tuesday/osprey.jpg", quality=95, exif=exif)
PYTHON
    head -c 3000 "$here/data/osprey.png" > "$shoot/tuesday/broken.png"
fi

# 1. What is this file, and how noisy is it?
find "$shoot" -type f \( -iname '*.png' -o -iname '*.jpg' \) | sort | head -n 1 |
    while read -r first; do denoise info "$first"; done

# 2. The whole shoot, folder by folder, with a page to look at. A broken file does not stop it:
#    the exit code is 1 then, and the file is named at the end.
denoise "$shoot" -o "$results/clean" --recursive --skip-existing \
    --report "$results/report.html" || [ $? -eq 1 ]

# 3. Half of the grain of one picture is liked better: keep some of it.
find "$results/clean" -type f -name '*.png' | sort | head -n 1 | while read -r clean; do
    original=$shoot/${clean#"$results/clean/"}
    denoise "$original" -o "$results/some_grain.png" --strength 0.6 --overwrite
done

# 4. The same command again finds nothing left to do but the broken file.
denoise "$shoot" -o "$results/clean" --recursive --skip-existing --quiet || [ $? -eq 1 ]
echo "look at $results/report.html"
