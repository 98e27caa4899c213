"""Analyses on plain data: order, cost, simulation, bounds; and what takes them out of the IR."""
