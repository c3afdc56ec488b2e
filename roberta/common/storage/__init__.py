"""Files as a whole: folders that are never half-written, files held open while they are read, and the hub."""
