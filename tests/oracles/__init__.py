"""Independent measurements, made with torch, of what the planner's closed forms predict."""
