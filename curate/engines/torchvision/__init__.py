"""The torchvision engine."""
