"""What a run costs and how long it still takes."""
