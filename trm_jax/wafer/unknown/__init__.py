"""Wafers unlike those of the training: the score that doubts them, and what it notices of patterns left out."""
