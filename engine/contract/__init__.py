"""What the engine and the screen both read: configurations, events, records, forecasts, numbers.

Standard library only.
"""
