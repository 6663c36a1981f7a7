"""What a run shows of itself: curves, galleries, time left."""
