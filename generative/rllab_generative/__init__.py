"""Generative models: autoencoder, VAE, GAN, char-RNN and char-transformer, and a judge of what they draw."""
