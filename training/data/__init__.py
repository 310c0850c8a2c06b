"""Data sets: downloads, image folders, decoding and augmentation."""
