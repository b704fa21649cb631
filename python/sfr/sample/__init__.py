"""Which galaxies are taken, which of them are the same one, and who trains or tests."""
