"""How good a wafer classifier is and when to trust it."""
