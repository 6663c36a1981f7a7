"""Progress of a run: charts, galleries, time left."""
