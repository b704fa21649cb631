"""The look of all figures, maps with scales and units, and the one door to matplotlib."""
