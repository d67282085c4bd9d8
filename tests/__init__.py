"""Tests of Meshwright; folders mirror the packages they test."""
