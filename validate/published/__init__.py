"""Published runs: read from tables, predicted, and compared with what was measured."""
