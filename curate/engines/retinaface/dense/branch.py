"""The dense branch as a whole: its head, its renderer and the pixel loss of RetinaFace (arXiv 1905.00641, equation 3).

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
_FIRST_STD = 0.01


class DenseHead(nn.Module):
    """A 1 × 1 convolution on one level of the pyramid: a code, a camera and a light for each anchor.

    Args:
        channels: of the feature map.
        anchors: a cell.
    """

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, anchors * PARAMETERS, kernel_size=1)
        # near 0, so that the first meshes are mean faces seen from the front
        nn.init.normal_(self.conv.weight, std=_FIRST_STD)
        nn.init.zeros_(self.conv.get_parameter("bias"))

    def forward(self, features: Tensor) -> Tensor:
        """(n, channels, h, w) → (n, h · w · anchors, 144); rows of the map first, then columns, then anchors."""
        return self.conv(features).permute(0, 2, 3, 1).reshape(len(features), -1, PARAMETERS)


class DenseBranch(nn.Module):
    """Draws the faces that parameters describe, and compares them with the image.

    Args:
        topology: of the mesh.
        crop_px: side of the pictures drawn and compared. Faces in the wild are mostly smaller than 64 pixels, and the
            time goes with the square.
        faces_at_most: as many positives of a batch are drawn, by chance from torch's generator; a batch has hundreds,
            and most of them are anchors of the same few faces.
        softness: of the renderer.
        background: grey behind the mesh. The paper names none; a grey in the middle pulls the mesh least to cover, or
            to leave free, what is beside the face.
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
        """Draw (p, 144) parameters: (p, 3, crop_px, crop_px), above 1 where light is strong."""
        with torch.autocast(parameters.device.type, enabled=False):  # bfloat16 is too coarse for a coordinate
            code, camera, light = _wide(parameters).split([CODE, CAMERA, LIGHT], dim=1)
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
        """The mean pixel loss of faces, without its weight; 0 where there is none.

        Args:
            parameters: (p, 144), one row a positive anchor.
            pictures: (n, 3, h, w), red, green, blue in 0..1: not what the network normalises them to.
            boxes_xyxy: (p, 4), the truth of each positive in pixels of `pictures`, on pixel edges.
            image_index: (p,) int64, the picture of each positive.
        """
        if not len(parameters):
            return parameters.sum()
        if len(parameters) > self._faces_at_most:
            drawn = torch.randperm(len(parameters))[: self._faces_at_most].to(parameters.device)
            parameters, boxes_xyxy, image_index = parameters[drawn], boxes_xyxy[drawn], image_index[drawn]
        crops = face_crops(pictures, boxes_xyxy, image_index, self._crop_px)
        return pixel_loss(self.render(parameters), crops)


def pixel_loss(rendered: Tensor, crops: Tensor) -> Tensor:
    """Equation 3's mean over p pictures of (p, 3, h, w): the differences of the three colours add up."""
    return (rendered - crops).abs().sum(dim=1).mean()


def face_crops(pictures: Tensor, boxes_xyxy: Tensor, image_index: Tensor, crop_px: int) -> Tensor:
    """Cut (p, 4) boxes, on pixel edges, out of (n, 3, h, w) pictures: (p, 3, crop_px, crop_px), without gradients."""
    with torch.no_grad(), torch.autocast(pictures.device.type, enabled=False):
        pictures = _wide(pictures)
        rois = torch.cat([image_index[:, None].to(pictures), boxes_xyxy.to(pictures)], dim=1)
        return roi_align(pictures, rois, crop_px, aligned=True)


def _wide(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
