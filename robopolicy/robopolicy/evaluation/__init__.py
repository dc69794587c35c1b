"""Evaluation: closed-loop success with intervals, tables and videos."""
