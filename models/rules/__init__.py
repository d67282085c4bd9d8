"""Conditions on layouts, by what they are about; :mod:`models.legality` asks them."""
