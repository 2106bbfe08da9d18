"""Datasets: points in a plane, tables, digits, letters, and files of one's own."""
