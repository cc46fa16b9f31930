#!/usr/bin/env bash
# torchattacks 3.5.1, torch 2.15.0: the modes of a network's parts after an attack.
#
# Expected: a network in evaluation mode is in evaluation mode after it was attacked,
# also within an outer module that normalises its input or counts its calls.
#
# What happens: an attack notes the mode of the outermost module alone and sets all
# parts to it when it ends. A new outer module is in training mode, whatever it holds,
# so that batch normalisation inside is in training mode afterwards: the network gives
# other outputs for the same images, and its statistics move with each call. Whatever
# is measured after the attack, its own success included, is of another network. With
# the outer module in evaluation mode, too, all stays as it was.
#
# Seen:
#   outer module as built: inner network in training mode afterwards True, outputs differ True, statistics moved True
#   outer module in evaluation mode: inner network in training mode afterwards False, outputs differ False, statistics moved False
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile torch==2.15.0 torchvision==0.29.2 numpy==2.4.6 requests==2.32.5 tqdm==4.67.1 scipy==1.17.1
"$work/venv/bin/pip" install -qq --no-compile --no-deps torchattacks==3.5.1
cd "$work"
venv/bin/python -W ignore - <<'PY'
import torch
import torchattacks
from torch import nn

seen = {}
for name, mode in (("as built", True), ("in evaluation mode", False)):
    torch.manual_seed(0)
    inner = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)).eval().requires_grad_(False)
    outer = nn.Sequential(nn.Identity(), inner)
    if not mode:
        outer.eval()
    images = torch.rand(2, 3, 8, 8)
    before = outer(images)
    torchattacks.PGD(outer, steps=2)(images, before.argmax(1))
    differ = not torch.equal(outer(images), before)
    seen[mode] = (inner.training, differ, bool(inner[1].running_mean.any()))
    print(
        f"outer module {name}: inner network in training mode afterwards {seen[mode][0]}, "
        f"outputs differ {seen[mode][1]}, statistics moved {seen[mode][2]}"
    )
assert seen == {True: (True, True, True), False: (False, False, False)}
PY
