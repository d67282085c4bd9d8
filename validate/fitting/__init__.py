"""Fits a device profile's compute figures to tables of kernels that others measured."""
