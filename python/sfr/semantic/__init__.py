"""The semantic autoencoder: galaxy parameters as a bottleneck, their profile as the decoder."""
