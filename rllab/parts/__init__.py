"""What any method may be built with: networks, gradient steps, replay, schedules, normalisation."""
