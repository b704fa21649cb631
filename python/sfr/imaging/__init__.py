"""From maps to RGB images, and from images to the ten cases."""
