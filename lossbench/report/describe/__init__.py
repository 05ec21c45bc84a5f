"""Descriptions of registered classes: lists, pages, formulas."""
