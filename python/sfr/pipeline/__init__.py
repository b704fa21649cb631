"""The steps as functions that hear only a `Progress`: what the command line and notebooks call."""
