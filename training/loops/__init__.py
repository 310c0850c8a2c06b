"""The training loops of GAN and VAE, and what they share."""
