"""Cycles of networks on configurations: measured, recorded, and compared with what was recorded.

``networks`` and ``quantize`` make models out of nothing, ``suite`` says what is measured,
``measure`` does it, ``baseline`` keeps the figures, ``document`` and ``scale_sim`` present them.
"""
