"""The parts of /compare, one module per question.

``score_pairs``: where do two scores agree and disagree? ``stability``: does a score agree between runs?
``known_errors``: how well does a score find verified wrong labels? ``ood``: how well does it find out-of-distribution
examples? The numbers are computed by ``scoring.evaluation``.
"""
