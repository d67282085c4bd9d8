"""The planning page: what an engineer asks, looks at and takes away, one page a module.

Nothing here computes a result: pages ask the planner and draw what it answers. Only modules that
draw (the pages, ``frame``, ``session``, ``inputs``) import streamlit; figures are plain functions
from the planner's answers to plotly.
"""
