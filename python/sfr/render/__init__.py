"""From particles to maps: gas physics, orientation, projection."""
