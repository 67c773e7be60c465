"""The product: one self-contained `model_new.py`, its export and its way back into Python."""

from epitaxy.product.compose import bundle, kernel_flags, kernel_name
from epitaxy.product.export import export, export_original, load

__all__ = ["bundle", "export", "export_original", "kernel_flags", "kernel_name", "load"]
