"""Classifiers without recursion, and the features they use."""

from typing import Literal, get_args

Rule = Literal["constant", "grid_size", "decision_tree", "boosting"]
RULES: tuple[Rule, ...] = get_args(Rule)
