"""May a candidate replace the champion? Measurements in, a verdict with reasons out. Pure."""
