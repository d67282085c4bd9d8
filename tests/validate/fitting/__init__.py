"""Tests of :mod:`validate.fitting`."""
