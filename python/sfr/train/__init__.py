"""From images to features, heads and predictions; Keras is imported only inside functions."""
