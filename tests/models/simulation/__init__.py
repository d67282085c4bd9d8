"""Tests of the event view."""
