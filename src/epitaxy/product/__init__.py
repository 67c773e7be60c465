"""The product: one self-contained `model_new.py`, its export and its way back into Python."""

from epitaxy.product.compose import bundle, kernel_flags, kernel_name
from epitaxy.product.export import export, load

__all__ = ["bundle", "export", "kernel_flags", "kernel_name", "load"]
