"""Make the data of the vector sample: 569 tumours in 30 measured columns, split, with 5 % of the labels made wrong.

The rows come with scikit-learn (Wolberg et al. 1995, UCI "Breast Cancer Wisconsin (Diagnostic)"), so nothing is
downloaded. Run it with ``python data.py``.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer

WRONG = 0.05
SEED = 3
SPLITS = {"train": 380, "test": 150, "pool": 39}


def write(folder):
    """Write tumours.parquet, truth.csv and scaling.csv (mean and deviation of train) into ``folder``."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    cancer = load_breast_cancer(as_frame=True)
    rng = np.random.default_rng(SEED)
    rows = cancer.data.iloc[rng.permutation(len(cancer.data))]
    true = cancer.target[rows.index]
    wrong = rng.random(len(rows)) < WRONG
    split = np.repeat(list(SPLITS), list(SPLITS.values()))
    names = np.array(cancer.target_names)
    label = np.where(split == "pool", None, names[np.where(wrong, 1 - true, true)])
    table = rows.assign(id=[f"tumour-{row:03d}" for row in rows.index], split=split, label=label)
    table.to_parquet(folder / "tumours.parquet", index=False)
    pd.DataFrame({"example_id": table["id"], "true_label": names[true]}).to_csv(folder / "truth.csv", index=False)
    train = rows[split == "train"]
    pd.DataFrame({"mean": train.mean(), "std": train.std()}).to_csv(folder / "scaling.csv", index_label="column")


if __name__ == "__main__":
    write(Path(__file__).parent / "data")
