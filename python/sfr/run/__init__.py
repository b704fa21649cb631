"""The folder of a run: names, paths, whole-file writes, locks, fingerprints, shared formats."""
