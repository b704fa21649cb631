from typing import Any

__version__: str
build_profile: str

#: The kernels; kernels.py, which alone imports this module, says what they take and give.
def __getattr__(name: str) -> Any: ...  # noqa: ANN401
