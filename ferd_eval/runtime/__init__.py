"""The process: device, signals, memory, progress, plugins."""
