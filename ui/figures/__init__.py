"""Figures: plain functions from the planner's answers to plotly, without streamlit."""
