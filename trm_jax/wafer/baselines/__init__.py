"""Classifiers without recursion, and the features they use."""
