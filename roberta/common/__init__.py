"""What the three backends share: configuration, parameter table, checkpoints, outputs. Never a framework."""
