"""The dense branch of RetinaFace: mesh decoder, camera, light, differentiable renderer and pixel loss."""
