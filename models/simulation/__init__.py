"""The event view of a step: who does what when, from the same inventory the closed form reads."""
