"""The scoring library of hardlook: everything except the dashboard.

``scoring`` turns a labelled dataset and the checkpoints of a model trained on it into one row of numbers per
example, kept as Parquet files in an *audit* folder. Importing this package loads neither torch nor ray: the
modules that need them (``models``, ``gradients``, ``curvature``, ``influence``, ``training``, ``compute``) import
them themselves, so that the dashboard can read tables, queues and the review log in a small process.
"""

__version__ = "0.3.0"
