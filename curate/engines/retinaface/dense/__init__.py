"""The dense branch of RetinaFace: a mesh decoder, a camera, a light, a differentiable renderer and the pixel loss."""
