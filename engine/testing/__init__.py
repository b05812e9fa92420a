"""Doubles and fault injectors for those who test against laneway."""
