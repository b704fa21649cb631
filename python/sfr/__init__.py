"""From galaxy simulations to images, and from images to what they say about star formation."""

__all__ = ["__version__"]


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module 'sfr' has no attribute {name!r}")
    from importlib.metadata import version

    return version("tng-sfr")
