"""Wafers unlike those of the training: made ones, patterns left out, and the score that doubts them."""
