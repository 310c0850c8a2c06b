"""What a training step is made of: losses, weight averages, devices and processes."""
