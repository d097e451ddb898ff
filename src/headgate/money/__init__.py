"""Prices, token counts, cost, periods and amounts: pure functions on integers.

Nothing here does I/O but reading the package's own data files (and a price book that is named).
"""
