"""Additional trainings on parts of the examples, for scores that need more than one training.

    folds             out-of-fold probabilities                               `hardlook score --cross-validate K`
    second_split      forgetting on a second split (Maini et al. 2022)        `hardlook second-split`
    holdout           irreducible loss of a hold-out model (RHO)              `hardlook holdout`
    self_supervised   training without labels                                 `hardlook self-supervise`

Each trains through the audit's own function, or ``scoring.training.trainer.fit`` (``parts``), except the last, which
has no labels. Each goes on after a kill at the part that is missing and writes one file of the run when all are done.
Cost: the trainings. Loads torch.
"""
