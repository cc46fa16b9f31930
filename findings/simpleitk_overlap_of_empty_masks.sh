#!/usr/bin/env bash
# SimpleITK 2.5.7, MedPy 0.5.2, scikit-learn 1.9.1: overlap of empty masks.
#
# Expected: Dice and the error rates lie in 0..1. Where a denominator is 0 (a
# healthy patient, an empty prediction) a library answers 0, 1 or NaN, or
# raises; np.nanmean over the patients leaves the undefined ones out.
#
# What happens: SimpleITK's LabelOverlapMeasuresImageFilter gives an infinite
# Dice for two empty masks, and for the other measures the largest double,
# 1.797e308, which is neither NaN nor infinite: it passes np.isfinite, and one
# such patient in 100 turns the mean to 1e306. With the label as an argument
# the same Dice is 0 (with a warning). One empty mask is enough for the false
# negative or false discovery rate. For two empty masks MedPy answers NaN,
# scikit-learn 0.
#
# Seen (order of arguments: prediction, truth):
#   both empty: Dice inf, of label 1 0, Jaccard 1.8e+308, FN 1.8e+308, FDR 1.8e+308; MedPy nan, scikit-learn 0
#   false alarm: Dice 0, of label 1 0, Jaccard 0, FN 1.8e+308, FDR 1; MedPy 0, scikit-learn 0
#   missed: Dice 0, of label 1 0, Jaccard 0, FN 1, FDR 1.8e+308; MedPy 0, scikit-learn 0
#   equal: Dice 1, of label 1 1, Jaccard 1, FN 0, FDR 0; MedPy 1, scikit-learn 1
#   nanmean of the finite FN of these four: 9e+307
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -qq --no-compile SimpleITK==2.5.7 MedPy==0.5.2 scikit-learn==1.9.1 numpy==2.4.6
cd "$work"
venv/bin/python -W ignore - <<'PY'
import numpy as np
import SimpleITK as sitk
from medpy.metric.binary import dc
from sklearn.metrics import f1_score

sitk.ProcessObject.SetGlobalWarningDisplay(False)
empty = np.zeros((8, 8), np.uint8)
organ = empty.copy()
organ[2:4, 2:4] = 1
cases = {"both empty": (empty, empty), "false alarm": (organ, empty), "missed": (empty, organ), "equal": (organ, organ)}
seen = {}
for name, (prediction, truth) in cases.items():
    f = sitk.LabelOverlapMeasuresImageFilter()
    f.Execute(sitk.GetImageFromArray(prediction), sitk.GetImageFromArray(truth))
    seen[name] = [f.GetDiceCoefficient(), f.GetDiceCoefficient(1), f.GetJaccardCoefficient(),
                  f.GetFalseNegativeError(), f.GetFalseDiscoveryRate(),
                  float(dc(prediction, truth)), float(f1_score(truth.ravel(), prediction.ravel()))]
    print("{}: Dice {:g}, of label 1 {:g}, Jaccard {:.2g}, FN {:.2g}, FDR {:.2g};"
          " MedPy {:g}, scikit-learn {:g}".format(name, *seen[name]))
large = np.finfo(float).max
assert seen["both empty"][:5] == [np.inf, 0, large, large, large]
assert np.isnan(seen["both empty"][5]) and seen["both empty"][6] == 0
assert seen["false alarm"] == [0, 0, 0, large, 1, 0, 0]
assert seen["missed"] == [0, 0, 0, 1, large, 0, 0]
assert seen["equal"] == [1, 1, 1, 0, 0, 1, 1]
misses = np.array([v[3] for v in seen.values()])
assert np.isfinite(misses).all()
mean = np.nanmean(misses / 4) * 4
print(f"nanmean of the finite FN of these four: {mean:.1g}")
assert mean > 1e307
PY
