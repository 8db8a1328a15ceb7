"""Sensorium: train, evaluate and use multimodal models on your own text, images, audio, video and sensor data."""
