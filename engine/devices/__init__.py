"""Devices that a run is placed on: one interface, three kinds."""
