"""Camera and light of the dense branch: parameters and their bounds, projection and shading.

RetinaFace (arXiv 1905.00641) names P_cam = [x_c, y_c, z_c, x'_c, y'_c, z'_c, f_c], location, pose and focal length, and
P_ill = [x_l, y_l, z_l, r_l, g_l, b_l, r_a, g_a, b_a], a point light's location and colour and the ambient colour. It
gives neither units nor ranges; those here are our choice. Lengths are in radii of the mean shape, whose centre is 0,
with x to the right, y up and z towards the viewer. Raw parameters are unbounded; 0 means a camera and a light straight
in front.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

CAMERA, LIGHT = 7, 9

_LOCATION = (0.0, 0.0, 4.0)
_LOCATION_SPAN = (4.0, 3.0, 1.5)  # always in front of the face and outside of it: see FARTHEST_OFFSET
_POSE_SPAN = (0.08, 0.08, 1.5)  # small: the mesh's centre stays in the image at any focal length
_FOCAL = 4.0  # the mean shape fills the image from the central location
_FOCAL_SPAN = 0.7  # exponent of e: from half to twice
_LIGHT_SPAN = (4.0, 4.0, 2.0)  # around (0, 0, 4), as the camera
_NEAR = 1e-3


@dataclass(frozen=True, eq=False)
class Camera:
    """p pinhole cameras. Each looks from its location at 0, with +y up, and is then rotated by its pose.

    Attributes:
        location: (p, 3), not on the y axis; `bounded_camera` gives −4..4, −3..3, 2.5..5.5.
        pose: (p, 3) radians: pitch up, yaw to the right, and roll, which turns the image counter-clockwise;
            −0.08..0.08, −0.08..0.08, −1.5..1.5.
        focal: (p,) in half image sizes: a point one length off the axis at a depth of one length is projected `focal`
            half images from the centre; 2.0..8.1.
    """

    location: Tensor
    pose: Tensor
    focal: Tensor


@dataclass(frozen=True, eq=False)
class Light:
    """p point lights without attenuation, and ambient light.

    Attributes:
        location: (p, 3); `bounded_light` gives −4..4, −4..4, 2..6.
        colour: (p, 3) in 0..1, red, green, blue of the point light.
        ambient: (p, 3) in 0..1.
    """

    location: Tensor
    colour: Tensor
    ambient: Tensor


def bounded_camera(raw: Tensor) -> Camera:
    """Cameras from (p, 7) raw parameters: location 3, pose 3, focal length 1."""
    bounded = torch.tanh(raw)
    location = raw.new_tensor(_LOCATION) + bounded[:, :3] * raw.new_tensor(_LOCATION_SPAN)
    return Camera(
        location, bounded[:, 3:6] * raw.new_tensor(_POSE_SPAN), _FOCAL * torch.exp(_FOCAL_SPAN * bounded[:, 6])
    )


def bounded_light(raw: Tensor) -> Light:
    """Lights from (p, 9) raw parameters: location 3, colour 3, ambient colour 3."""
    location = raw.new_tensor(_LOCATION) + torch.tanh(raw[:, :3]) * raw.new_tensor(_LIGHT_SPAN)
    return Light(location, torch.sigmoid(raw[:, 3:6]), torch.sigmoid(raw[:, 6:9]))


def project(vertices: Tensor, camera: Camera, width_px: int, height_px: int) -> Tensor:
    """Project vertices onto the image.

    Args:
        vertices: (p, v, 3)
        camera: p cameras.
        width_px: Of the image.
        height_px: Of the image.

    Returns:
        (p, v, 3): x and y in pixels from the top left edge, and depth along the camera's axis, in lengths. Vertices
        without positive depth are behind the camera; their x and y are meaningless.
    """
    forward = functional.normalize(-camera.location, dim=-1)
    right = functional.normalize(torch.linalg.cross(forward, forward.new_tensor([[0.0, 1.0, 0.0]])), dim=-1)
    axes = torch.stack([right, torch.linalg.cross(right, forward), forward], dim=1)  # (p, 3, 3), one axis a row
    x, y, depth = ((vertices - camera.location[:, None]) @ axes.transpose(1, 2)).unbind(-1)  # each (p, v)
    up, to_right, around = camera.pose[:, None].unbind(-1)  # each (p, 1)
    x, depth = _rotate(x, depth, to_right)
    y, depth = _rotate(y, depth, up)
    x, y = _rotate(x, y, around)
    scale = camera.focal[:, None] / depth.clamp(min=_NEAR)
    return torch.stack([(1 + scale * x) * width_px / 2, (1 - scale * y) * height_px / 2, depth], dim=-1)


def shaded(vertices: Tensor, colours: Tensor, triangles: Tensor, light: Light) -> Tensor:
    """Shade colours: colour · (ambient + light · max(0, n·l)), Lambert's law at each vertex.

    Args:
        vertices: (p, v, 3)
        colours: (p, v, 3), the albedo.
        triangles: (t, 3) int64
        light: p lights.

    Returns:
        (p, v, 3), above 1 where light is strong.
    """
    towards = functional.normalize(light.location[:, None] - vertices, dim=-1)
    cosine = (vertex_normals(vertices, triangles) * towards).sum(dim=-1, keepdim=True)
    return colours * (light.ambient[:, None] + light.colour[:, None] * functional.relu(cosine))


def vertex_normals(vertices: Tensor, triangles: Tensor) -> Tensor:
    """(p, v, 3) unit normals: the area-weighted mean of the adjacent triangles' normals; 0 without triangles."""
    a, b, c = (vertices.index_select(1, corner) for corner in triangles.unbind(1))
    of_triangles = torch.linalg.cross(b - a, c - a)  # (p, t, 3), twice the area long
    sums = torch.zeros_like(vertices)
    for corner in triangles.unbind(1):
        sums = sums.index_add(1, corner, of_triangles)
    return functional.normalize(sums, dim=-1)


def _rotate(first: Tensor, second: Tensor, angle: Tensor) -> tuple[Tensor, Tensor]:
    return first * angle.cos() - second * angle.sin(), first * angle.sin() + second * angle.cos()
