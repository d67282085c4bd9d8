"""Figures about speed, printed by commands; nothing here is a test."""
