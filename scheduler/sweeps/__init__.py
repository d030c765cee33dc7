"""Sweeps: matrices of cases that are kept in files, run again and again, and watched."""
