"""Calibration: measure kernels here, fit a profile, predict what was not measured."""
