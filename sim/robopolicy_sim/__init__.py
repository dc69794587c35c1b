"""MuJoCo worlds, tasks, scripted experts and simulated robots."""
