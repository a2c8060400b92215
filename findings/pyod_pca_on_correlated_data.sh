#!/usr/bin/env bash
# pyod's PCA detector does not see points that break a correlation.
#
# The detector is documented as the principal component classifier of Shyu et al. (2003), whose score is the squared
# projections on the components over their variances. pyod sums instead the Euclidean distances from a point to the
# components' unit vectors, taken as points, over the weights. On two variables with correlation 0.95, points of the opposite
# correlation are the textbook case for PCA; pyod ranks them little better than chance.
# Exits with 1 if the library no longer behaves so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q pyod==3.6.7 scikit-learn numpy
cd "$folder"
"$folder/venv/bin/python" -W ignore - <<'PY'
from importlib.metadata import version

import numpy as np
from pyod.models.pca import PCA
from sklearn.decomposition import PCA as Components
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import StandardScaler

rng = np.random.default_rng(0)
inside = rng.multivariate_normal([0, 0], [[1, 0.95], [0.95, 1]], 700)
train, near = inside[:500], inside[500:]
along = rng.choice([-1, 1], 200) * rng.uniform(1, 2, 200)
broken = np.column_stack([along, -along])
others, out = np.vstack([near, broken]), np.repeat([0, 1], 200)

scaler = StandardScaler().fit(train)
whitened = Components(whiten=True).fit(scaler.transform(train)).transform(scaler.transform(others))
textbook = roc_auc_score(out, (whitened**2).sum(1))
found = roc_auc_score(out, PCA().fit(train).decision_function(others))
print(f"pyod {version('pyod')}, scikit-learn {version('scikit-learn')}")
print(f"AUROC of points that break the correlation: squared projections over variances {textbook:.3f}, pyod's PCA {found:.3f}")
raise SystemExit(0 if textbook > 0.99 and found < 0.75 else 1)
PY
