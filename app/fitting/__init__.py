"""Brings a decoded picture into the form of a model's training data; numpy and Pillow alone."""
