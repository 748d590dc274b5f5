"""Helper library of the book *Occam's Networks*.

Three floors, arrows only downwards. Theory (NumPy and SciPy alone): ``boolean``, ``complexity``, ``kernels``,
``stats``. Experiment (torch): ``chunks``, ``nets``, ``prior``, ``train``. Edge (where a notebook meets the world):
``settings``, ``claims``, ``results``, ``plots``.
"""

__version__ = "0.1.0"
