#!/usr/bin/env bash
# adversarial-library 0.2.8, torch 2.15.0: the segmentation attack alma_prox and
# the number of classes.
#
# Expected: an attack on segmentation networks takes a network with two classes,
# background and one structure, which most medical networks have.
#
# What happens: with two classes it stops in its first step with "selected index
# k out of range". Its default loss divides by the distance of the largest logit
# to the third largest, so three classes are the fewest; from three on it runs.
# Neither the documentation nor the message says so.
#
# Seen:
#   2 classes: RuntimeError: selected index k out of range
#   3 classes: runs
#   4 classes: runs
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile torch==2.15.0 torchvision==0.29.2 adv-lib==0.2.8 numpy==2.4.6
cd "$work"
TORCHDYNAMO_DISABLE=1 venv/bin/python -W ignore - <<'PY'
import torch
from adv_lib.attacks.segmentation import alma_prox
from torch import nn

seen = {}
for classes in (2, 3, 4):
    torch.manual_seed(0)
    network = nn.Conv2d(3, classes, 3, padding=1).requires_grad_(False).eval()
    images = torch.rand(2, 3, 8, 8)
    try:
        alma_prox(network, images, network(images).argmax(1), num_steps=10)
        seen[classes] = "runs"
    except RuntimeError as error:
        seen[classes] = f"RuntimeError: {error}".splitlines()[0]
    print(f"{classes} classes: {seen[classes]}")
assert "selected index k out of range" in seen[2]
assert seen[3] == seen[4] == "runs"
PY
