"""What lies in a workdir: configs and presets, base models, codes, records; resumable, and recorded."""
