"""When to trust an answer: calibration, thresholds, bounds of risk, readiness."""
