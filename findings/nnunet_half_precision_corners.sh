#!/usr/bin/env bash
# nnunetv2 2.8.1 (torch 2.15.0): logits at the corners of an image.
#
# Expected: a voxel that a single patch covers gets that patch's own logit, up
# to the rounding of a half-precision result, 1 part in 2048: the predictor
# divides by the same Gaussian weight that it multiplied with.
#
# What happens: weight times logit and the weight are both kept in half
# precision, and weights near a patch's corners are so small (6e-8 to 6e-5)
# that few or no digits of the product are left. A network that answers 1.37
# everywhere is predicted as 1 to 1.5. Corners of an image are covered by one
# patch alone, so the masks that are deployed hold this, too; with sums in
# single precision the answer is the network's.
#
# Seen (an image of one patch, 16x16x16):
#   half precision: logits 1 to 1.5, 5.3% of the voxels off by over 0.005
#   single precision: logits 1.37 to 1.37
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile nnunetv2==2.8.1 torch==2.15.0
cd "$work"
venv/bin/python -W ignore - <<'PY'
from types import SimpleNamespace

import torch
from nnunetv2.inference import predict_from_raw_data as module


class Constant(torch.nn.Module):
    def forward(self, x):
        return torch.full_like(x, 1.37)


def logits():
    predictor = module.nnUNetPredictor(
        device=torch.device("cpu"), allow_tqdm=False, perform_everything_on_device=False, use_mirroring=False
    )
    predictor.network = Constant()
    predictor.allowed_mirroring_axes = None
    predictor.configuration_manager = SimpleNamespace(patch_size=[16, 16, 16])
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=1)
    return predictor.predict_sliding_window_return_logits(torch.zeros(1, 16, 16, 16)).float()


half = logits()
share = ((half - 1.37).abs() > 0.005).float().mean()
print(f"half precision: logits {half.min():.3g} to {half.max():.3g}, {share:.1%} of the voxels off by over 0.005")
original = module.compute_gaussian
torch.half = torch.float32
module.compute_gaussian = lambda *a, **k: original(*a, **k).float()
single = logits()
print(f"single precision: logits {single.min():.3g} to {single.max():.3g}")
assert half.min() == 1 and half.max() == 1.5 and share > 0.05
assert (single - 1.37).abs().max() < 1e-5
PY
