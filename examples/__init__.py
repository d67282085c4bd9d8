"""Scripts that show what the planner finds, each with its committed output."""
