"""What to choose: scenarios, the space of layouts, exact search, plans and why."""
