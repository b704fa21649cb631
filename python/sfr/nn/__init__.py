"""The one door to Keras, backbones, first weights: what train and semantic both use."""
