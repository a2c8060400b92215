"""Influence of training examples on predictions, and self-influence.

One sign everywhere: positive helps (proponent), negative harms (opponent). The door of these rooms: ``factors`` holds
`InfluenceFactors`, which embeds examples by ``embeddings`` and a rule for each kind of layer (``layer_rules``);
``head`` holds Cook's distance.
"""

from scoring.influence.cooks_distance import (
    conjugate_gradients,
    cook_distances,
    head_factor,
    self_influence,
    self_influence_by_gradients,
)
from scoring.influence.influence_factors import InfluenceFactors, embedding_self_influence

__all__ = [
    "InfluenceFactors",
    "conjugate_gradients",
    "cook_distances",
    "embedding_self_influence",
    "head_factor",
    "self_influence",
    "self_influence_by_gradients",
]
