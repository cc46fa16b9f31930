#!/usr/bin/env bash
# tensorboardX 2.6.5 and tensorboard 2.21.0: a label map logged as an image.
#
# Expected: add_image of an integer array holding the classes 0, 1, 2 shows
# nearly black pixels 0, 1, 2, whichever integer type holds them.
#
# What happens: so it is for uint8 only. Any other type, int64 (what argmax
# gives) among them, is taken for floats in 0..1, multiplied by 255 and cut to
# 8 bits without clipping: class 1 is white, class 2 is 254, class 128 is 128
# again, and a value a little below 0 turns from black to nearly white.
#
# Seen:
#   uint8 classes [0, 1, 2, 128] logged as [0, 1, 2, 128]
#   int64 classes [0, 1, 2, 128] logged as [0, 255, 254, 128]
#   float32 [0.0, 1.0, -0.01] logged as [0, 255, 254]
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile tensorboardX==2.6.5 tensorboard==2.21.0 \
    pillow==13.0.0 numpy==2.2.6
cd "$work"
venv/bin/python - <<'PY' 2>&1 | grep -v -i tensorflow
import io

import numpy as np
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboardX import SummaryWriter

classes = [0, 1, 2, 128]
values = [0.0, 1.0, -0.01]
with SummaryWriter("run") as writer:
    for kind in ("uint8", "int64"):
        writer.add_image(kind, np.array([[classes]], kind), 0)
    writer.add_image("float32", np.array([[values]], np.float32), 0)
events = EventAccumulator("run")
events.Reload()


def logged(tag):
    with Image.open(io.BytesIO(events.Images(tag)[0].encoded_image_string)) as img:
        return np.array(img.convert("L")).ravel().tolist()


for kind in ("uint8", "int64"):
    print(kind, "classes", classes, "logged as", logged(kind))
print("float32", values, "logged as", logged("float32"))
assert logged("uint8") == classes
assert logged("int64") == [0, 255, 254, 128]
assert logged("float32")[:2] == [0, 255] and logged("float32")[2] > 250
PY
