"""The whole dense branch: head, renderer and pixel loss of RetinaFace (arXiv 1905.00641, equation 3).

    L_pixel = 1 / (W · H) · Σ_i Σ_j ‖ R(D_PST, P_cam, P_ill)_ij − I*_ij ‖₁

with the decoder D, the renderer R and the crop I* of the image at the face's box.
"""

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from curate.engines.retinaface.dense.decoder import CODE, MeshDecoder
from curate.engines.retinaface.dense.rasteriser import Softness, rasterise
from curate.engines.retinaface.dense.scene import CAMERA, LIGHT, bounded_camera, bounded_light, project, shaded
from curate.engines.retinaface.dense.topology import MeshTopology

PARAMETERS = CODE + CAMERA + LIGHT
_INIT_STD = 0.01


class DenseHead(nn.Module):
    """A 1 × 1 convolution on one level of the pyramid: a code, a camera and a light for each anchor.

    Args:
        channels: Of the feature map.
        anchors: Anchors per cell.
    """

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, anchors * PARAMETERS, kernel_size=1)
        # near 0: the first meshes are mean faces seen from the front
        nn.init.normal_(self.conv.weight, std=_INIT_STD)
        nn.init.zeros_(self.conv.get_parameter("bias"))

    def forward(self, features: Tensor) -> Tensor:
        """(n, channels, h, w) → (n, h · w · anchors, 144); rows of the map first, then columns, then anchors."""
        return self.conv(features).permute(0, 2, 3, 1).reshape(len(features), -1, PARAMETERS)


class DenseBranch(nn.Module):
    """Renders the faces that parameters describe, and compares them with the image.

    Args:
        topology: Of the mesh.
        crop_px: Side of the rendered images. Most faces in photographs are smaller than 64 pixels, and time grows with
            the square.
        faces_at_most: Largest number of positive anchors rendered per batch, a random sample from torch's generator; a
            batch has hundreds, most of them of the same few faces.
        softness: Of the renderer.
        background: Grey behind the mesh. The paper names none; with a medium grey the mesh has the least incentive to
            cover or to expose the surroundings of the face.
    """

    def __init__(
        self,
        topology: MeshTopology,
        crop_px: int = 64,
        faces_at_most: int = 32,
        softness: Softness | None = None,
        background: float = 0.5,
    ) -> None:
        super().__init__()
        self.decoder = MeshDecoder(topology)
        self.register_buffer("triangles", torch.from_numpy(topology.triangles), persistent=False)
        self._crop_px, self._faces_at_most = crop_px, faces_at_most
        self._softness, self._background = softness, background

    def render(self, parameters: Tensor) -> Tensor:
        """Render (p, 144) parameters: (p, 3, crop_px, crop_px), above 1 where light is strong."""
        with torch.autocast(parameters.device.type, enabled=False):  # bfloat16 is too coarse for a coordinate
            code, camera, light = _at_least_float32(parameters).split([CODE, CAMERA, LIGHT], dim=1)
            vertices, colours = self.decoder(code).split(3, dim=-1)
            triangles = self.get_buffer("triangles")
            return rasterise(
                project(vertices, bounded_camera(camera), self._crop_px, self._crop_px),
                shaded(vertices, colours, triangles, bounded_light(light)),
                triangles,
                self._crop_px,
                self._crop_px,
                softness=self._softness,
                background=self._background,
            )

    def loss(self, parameters: Tensor, pictures: Tensor, boxes_xyxy: Tensor, image_index: Tensor) -> Tensor:
        """The unweighted mean pixel loss; 0 without faces.

        Args:
            parameters: (p, 144), one row per positive anchor.
            pictures: (n, 3, h, w), red, green, blue in 0..1, not normalised.
            boxes_xyxy: (p, 4), the true box of each anchor in `pictures`, pixel edges.
            image_index: (p,) int64, the image of each anchor.
        """
        if not len(parameters):
            return parameters.sum()
        if len(parameters) > self._faces_at_most:
            sample = torch.randperm(len(parameters))[: self._faces_at_most].to(parameters.device)
            parameters, boxes_xyxy, image_index = parameters[sample], boxes_xyxy[sample], image_index[sample]
        crops = face_crops(pictures, boxes_xyxy, image_index, self._crop_px)
        return pixel_loss(self.render(parameters), crops)


def pixel_loss(rendered: Tensor, crops: Tensor) -> Tensor:
    """Equation 3's mean over p images of (p, 3, h, w); the differences of the three colours are summed."""
    return (rendered - crops).abs().sum(dim=1).mean()


def face_crops(pictures: Tensor, boxes_xyxy: Tensor, image_index: Tensor, crop_px: int) -> Tensor:
    """Crop (p, 4) boxes, pixel edges, from (n, 3, h, w) images: (p, 3, crop_px, crop_px), without gradients."""
    with torch.no_grad(), torch.autocast(pictures.device.type, enabled=False):
        pictures = _at_least_float32(pictures)
        rois = torch.cat([image_index[:, None].to(pictures), boxes_xyxy.to(pictures)], dim=1)
        return roi_align(pictures, rois, crop_px, aligned=True)


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
