"""Wafer maps as a device reads and answers them: numpy alone, Python 3.10 and newer."""
