"""RetinaFace's dense branch: mesh files, the decoder, camera and light, the rasteriser, and the loss as a whole."""

import math
from dataclasses import replace

import numpy as np
import pytest
from extras import needs_torch

pytestmark = [pytest.mark.train, needs_torch]

CODE, CAMERA, LIGHT = slice(0, 128), slice(128, 135), slice(135, 144)


@pytest.fixture(scope="module", autouse=True)
def _torch(one_thread):
    """Torch is imported when the first test here runs: collecting tests takes no seconds for it."""
    global torch, gradcheck, DenseBranch, DenseHead, face_crops, pixel_loss, ChebyshevConvolution, scaled_laplacian
    global sparse_product, FARTHEST_OFFSET, MeshDecoder, Softness, rasterise, Camera, Light, bounded_camera
    global bounded_light, project, shaded, vertex_normals, synthetic_face, MeshTopology, UpSampling, read_topology
    global write_topology, DataError, UsageError
    import torch
    from torch.autograd import gradcheck

    from curate.engines.retinaface.dense.branch import DenseBranch, DenseHead, face_crops, pixel_loss
    from curate.engines.retinaface.dense.chebyshev import ChebyshevConvolution, scaled_laplacian, sparse_product
    from curate.engines.retinaface.dense.decoder import FARTHEST_OFFSET, MeshDecoder
    from curate.engines.retinaface.dense.rasteriser import Softness, rasterise
    from curate.engines.retinaface.dense.scene import (
        Camera,
        Light,
        bounded_camera,
        bounded_light,
        project,
        shaded,
        vertex_normals,
    )
    from curate.engines.retinaface.dense.synthetic import synthetic_face
    from curate.engines.retinaface.dense.topology import MeshTopology, UpSampling
    from curate.engines.retinaface.dense.topology_file import read_topology, write_topology
    from curate.errors import DataError, UsageError


def _random(*shape, scale=1.0, seed=0, dtype=None):
    return scale * torch.randn(*shape, dtype=dtype or torch.float64, generator=torch.Generator().manual_seed(seed))


def _camera(location=(0.0, 0.0, 4.0), pose=(0.0, 0.0, 0.0), focal=4.0):
    return Camera(torch.tensor([location]), torch.tensor([pose]), torch.tensor([focal]))


def _light(location=(0.0, 0.0, 4.0), colour=(0.5, 0.5, 0.5), ambient=(0.2, 0.3, 0.4)):
    return Light(torch.tensor([location]), torch.tensor([colour]), torch.tensor([ambient]))


def _triangle(corners, colour=(1.0, 0.0, 0.0)):
    """One triangle on the screen: (1, 3, 3) positions, (1, 3, 3) colours, its indices."""
    return torch.tensor([corners]), torch.tensor([[colour] * 3]), torch.tensor([[0, 1, 2]])


# Mesh files ------------------------------------------------------------------------------------------------------


def _flat(topology):
    parts = [values for matrix in topology.up_samplings for values in vars(matrix).values()]
    return [np.array(topology.sizes), *topology.edges, *parts, topology.vertices, topology.colours, topology.triangles]


def test_a_written_mesh_is_read_unchanged(tmp_path):
    """Every array is equal and has the same type."""
    topology = synthetic_face(3)
    write_topology(topology, tmp_path / "face.npz")
    again = read_topology(tmp_path / "face.npz")
    pairs = list(zip(_flat(topology), _flat(again), strict=True))
    assert len(pairs) == 1 + 3 + 2 * 3 + 3
    assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in pairs)


def _arrays(tmp_path):
    write_topology(synthetic_face(3), tmp_path / "face.npz")
    with np.load(tmp_path / "face.npz") as archive:
        return dict(archive)


def _with(array, index, value):
    changed = array.copy()
    changed[index] = value
    return changed


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("edges_1", lambda _: None, "edges_1: an array is missing"),
        ("up_1_weights", lambda _: None, "up_1_weights: an array is missing"),
        ("triangles", lambda a: _with(a, (3, 1), 41), "triangles: there is no such vertex (got 41; expected 0 to 40)"),
        ("edges_0", lambda a: _with(a, (0, 0), -1), "edges_0: there is no such vertex (got -1; expected 0 to 4)"),
        ("up_0_columns", lambda a: _with(a, 2, 5), "up_0_columns: there is no such vertex (got 5; expected 0 to 4)"),
        ("up_0_rows", lambda a: a % 12, "up_0_rows: a vertex has no row (got no row 12)"),
        ("edges_2", lambda a: _with(a, 7, 9), "edges_2: an edge connects a vertex with itself"),
        ("vertices", lambda a: a[:-1], "vertices: wrong shape (got (40, 3); expected (41, 3))"),
        ("triangles", lambda a: a[:, :2], "triangles: wrong shape (got (64, 2); expected (n, 3))"),
        ("edges_1", lambda a: a[:0], "edges_1: wrong shape (got (0, 2); expected (n, 2))"),
        ("up_1_weights", lambda a: a[:-1], "up_1_weights: wrong shape"),
        ("sizes", lambda a: a[None], "sizes: wrong shape (got (1, 3); expected (levels,))"),
        ("sizes", lambda a: a[:0], "sizes: too few levels or vertices"),
        ("vertices", lambda a: _with(a, (0, 0), np.nan), "vertices: a value is not finite (got nan)"),
        ("up_0_weights", lambda a: _with(a, 0, np.inf), "up_0_weights: a value is not finite (got inf)"),
        ("vertices", lambda a: a * 0, "vertices: the extent of the shape is out of range"),
        ("vertices", lambda a: a * 1e300, "vertices: the extent of the shape is out of range"),
        ("colours", lambda a: a * 255, "colours: colours out of range"),
        ("triangles", lambda a: a.astype(float), "triangles: not integers (got float64"),
        ("colours", lambda a: a.astype(complex), "colours: not numbers (got complex128"),
        ("edges_0", lambda a: a.astype(np.uint64) + 2**63, "edges_0: there is no such vertex"),
        ("edges_0", lambda a: a.astype(object), "not a readable mesh file"),
    ],
)
def test_an_invalid_mesh_is_refused(tmp_path, name, change, told):
    """The one-line error names the file, the array and the fault."""
    arrays = _arrays(tmp_path)
    value = change(arrays.pop(name))
    np.savez(tmp_path / "bad.npz", **arrays, **({} if value is None else {name: value}))
    with pytest.raises(DataError) as caught:
        read_topology(tmp_path / "bad.npz")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(str(tmp_path / "bad.npz"))
    assert told in message


@pytest.mark.parametrize("content", ["text", "cut", "single", "empty"])
def test_other_files_are_refused(tmp_path, content):
    """Text, half an archive, a single array and an empty file are not mesh files."""
    path = tmp_path / "bad.npz"
    if content == "single":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    elif content == "cut":
        write_topology(synthetic_face(3), path)
        path.write_bytes(path.read_bytes()[:-200])
    else:
        path.write_text("no mesh" if content == "text" else "")
    with pytest.raises(DataError, match=r"bad\.npz: (not a readable mesh file|a single array)"):
        read_topology(path)


def test_a_missing_mesh_file_is_a_usage_error(tmp_path):
    """The exit code is 2."""
    with pytest.raises(UsageError, match="there is no such mesh file"):
        read_topology(tmp_path / "face.npz")


def test_missing_up_samplings_are_refused():
    """A mesh of three levels needs two up-samplings."""
    with pytest.raises(DataError, match="got 3, 3 and 1"):
        replace(synthetic_face(3), up_samplings=synthetic_face(2).up_samplings)


def test_the_size_of_the_synthetic_face():
    """Five levels: 545 vertices, 1024 triangles, and Euler characteristic 1: vertices − edges + triangles."""
    face = synthetic_face()
    assert face.sizes == (5, 13, 41, 145, 545)
    assert len(face.triangles) == 1024
    assert face.sizes[-1] - len(face.edges[-1]) + len(face.triangles) == 1


def test_the_normals_of_the_synthetic_face_point_outwards():
    """All normals point away from the centre."""
    face = synthetic_face(4)
    vertices = torch.from_numpy(face.vertices)[None]
    normals = vertex_normals(vertices, torch.from_numpy(face.triangles))
    assert ((normals * vertices).sum(dim=-1) > 0.3).all()


# Graph convolution -----------------------------------------------------------------------------------------------


def _dense(indices, values, rows, columns):
    return torch.zeros(rows, columns, dtype=values.dtype).index_put(tuple(indices), values)


def test_the_scaled_laplacian_of_a_path_of_three():
    """L has the eigenvalues 0, 1, 3, so L~ = 2 L / 3 − 1; a duplicate edge counts once."""
    entries = scaled_laplacian(np.array([[0, 1], [2, 1], [1, 0]]), 3)
    expected = torch.tensor([[-1 / 3, -2 / 3, 0], [-2 / 3, 1 / 3, -2 / 3], [0, -2 / 3, -1 / 3]], dtype=torch.float64)
    torch.testing.assert_close(_dense(*entries, 3, 3), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("level", [0, 2, 4])
def test_the_eigenvalues_of_the_scaled_laplacian(level):
    """They go from −1 to 1, where Chebyshev polynomials are bounded."""
    face = synthetic_face()
    size = face.sizes[level]
    eigenvalues = torch.linalg.eigvalsh(_dense(*scaled_laplacian(face.edges[level], size), size, size))
    torch.testing.assert_close(eigenvalues[[0, -1]], torch.tensor([-1.0, 1.0]).double(), rtol=0, atol=1e-3)


def test_the_convolution_is_the_polynomial_of_the_laplacian():
    """Σ T_k(L~) x Θ_k + b, with the first six Chebyshev polynomials written out."""
    face = synthetic_face(3)
    indices, values = scaled_laplacian(face.edges[-1], 41)
    layer = ChebyshevConvolution(3, 2, order=6).double()
    torch.nn.init.normal_(layer.bias)
    features = _random(2, 41, 3)
    x, one = _dense(indices, values, 41, 41), torch.eye(41, dtype=torch.float64)
    x2, x3, x4, x5 = (torch.linalg.matrix_power(x, power) for power in (2, 3, 4, 5))
    polynomials = [one, x, 2 * x2 - one, 4 * x3 - 3 * x, 8 * x4 - 8 * x2 + one, 16 * x5 - 20 * x3 + 5 * x]
    expected = layer.bias.expand(2, 41, 2)
    for polynomial, weight in zip(polynomials, layer.weight, strict=True):
        expected = expected + polynomial @ features @ weight
    torch.testing.assert_close(layer(features, indices, values), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("order", "reach"), [(1, 0), (3, 2)])
def test_the_receptive_field_of_the_convolution(order, reach):
    """K polynomials reach K − 1 edges along a path."""
    entries = scaled_laplacian(np.array([[n, n + 1] for n in range(8)]), 9)
    features = torch.zeros(1, 9, 1, dtype=torch.float64)
    features[0, 0] = 1
    heard = ChebyshevConvolution(1, 1, order).double()(features, *entries)[0, :, 0]
    assert torch.nonzero(heard).flatten().tolist() == list(range(reach + 1))


def test_gradients_of_the_convolution():
    """The gradients of features, weights and bias agree with finite differences."""
    indices, values = scaled_laplacian(synthetic_face(2).edges[-1], 13)
    layer = ChebyshevConvolution(2, 3, order=4).double()

    def run(features, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (features, indices, values))

    inputs = _random(2, 13, 2), layer.weight.detach(), layer.bias.detach()
    assert gradcheck(run, tuple(value.clone().requires_grad_() for value in inputs))


def test_a_sparse_product_equals_the_dense_one():
    """Also with fewer columns than rows."""
    matrix = torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    features = _random(3, 2, 5)
    indices = matrix.nonzero().T
    torch.testing.assert_close(sparse_product(indices, matrix[tuple(indices)], 4, features), matrix @ features)


# The decoder -----------------------------------------------------------------------------------------------------


def test_any_code_gives_a_mesh_within_bounds():
    """For extreme codes, vertices stay near the mean face and colours within 0..1."""
    decoder = MeshDecoder(synthetic_face(3))
    mean = decoder.get_buffer("mean_shape")
    meshes = decoder(_random(20, 128, scale=1e4, dtype=torch.float32))
    assert meshes.shape == (20, 41, 6)
    assert (meshes[..., :3] - mean).abs().max() <= FARTHEST_OFFSET + 1e-6
    assert meshes[..., 3:].min() >= 0
    assert meshes[..., 3:].max() <= 1
    assert meshes.std(dim=0).max() > 0.1


def test_the_first_meshes_are_near_the_mean_face():
    """With random weights and small codes the mesh is the mean shape, in the mean colours."""
    face = synthetic_face(4)
    mesh = MeshDecoder(face)(_random(4, 128, scale=0.1, dtype=torch.float32))
    colours = torch.from_numpy(face.colours).float().expand(4, -1, -1)
    assert (mesh[..., :3] - MeshDecoder(face).get_buffer("mean_shape")).abs().max() < 0.1
    assert (mesh[..., 3:] - colours).abs().max() < 0.1


def test_the_origin_and_the_unit_of_a_mesh_file_do_not_matter():
    """The mean shape is centred at 0 and scaled to radius 1: a shifted face in millimetres gives the same result."""
    face = synthetic_face(3)
    far = replace(face, vertices=face.vertices * 95 + (3000, -200, 40))
    shape = MeshDecoder(face).get_buffer("mean_shape")
    torch.testing.assert_close(MeshDecoder(far).get_buffer("mean_shape"), shape, rtol=0, atol=1e-6)
    assert shape.norm(dim=1).max().item() == pytest.approx(1)
    torch.testing.assert_close((shape.amin(dim=0) + shape.amax(dim=0)), torch.zeros(3), rtol=0, atol=1e-6)


def test_duplicate_entries_are_added():
    """A vertex computed from 0.25 and 0.75 of the same vertex equals that vertex."""
    face = synthetic_face(2)
    up = face.up_samplings[0]
    halved = UpSampling(
        np.concatenate([up.rows, up.rows]),
        np.concatenate([up.columns, up.columns]),
        np.concatenate([0.25 * up.weights, 0.75 * up.weights]),
    )
    one, other = MeshDecoder(face), MeshDecoder(replace(face, up_samplings=(halved,)))
    other.load_state_dict(one.state_dict())
    codes = _random(2, 128, dtype=torch.float32)
    torch.testing.assert_close(one(codes), other(codes))


def test_a_mesh_of_one_level_decodes():
    """Without finer levels, the code is decoded to the only mesh."""
    face = synthetic_face(1)
    assert MeshDecoder(face)(torch.zeros(2, 128)).shape == (2, 5, 6)


def test_gradients_of_the_decoder():
    """The gradient of the code agrees with finite differences, and every weight has a gradient."""
    decoder = MeshDecoder(synthetic_face(2), width=3, order=3).double()
    codes = _random(1, 128).requires_grad_()
    assert gradcheck(decoder, (codes,))
    decoder(codes).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in decoder.parameters())


def test_a_checkpoint_holds_only_weights():
    """The mesh comes from its file and is not among the tensors."""
    branch = DenseBranch(synthetic_face(3))
    assert branch.state_dict().keys() == dict(branch.named_parameters()).keys()


# Camera ----------------------------------------------------------------------------------------------------------


def _seen(point, **camera):
    """The projection of a point into an image of 64 × 32 pixels: x, y, depth."""
    return project(torch.tensor([[point]]), _camera(**camera), 64, 32)[0, 0].tolist()


@pytest.mark.parametrize(
    ("point", "camera", "expected"),
    [
        ((0.0, 0.0, 0.0), {}, (32, 16, 4)),
        ((0.5, 0.0, 0.0), {}, (48, 16, 4)),  # to the right, by 4 · 0.5 / 4 of half the width
        ((0.0, 0.5, 0.0), {}, (32, 8, 4)),  # y points up, rows go down
        ((0.5, 0.0, 2.0), {}, (64, 16, 2)),  # twice as near, twice as far off the middle
        ((0.5, 0.0, 0.0), {"focal": 2.0}, (40, 16, 4)),
        ((0.5, 0.0, 0.0), {"location": (0.0, 0.0, 2.0)}, (64, 16, 2)),
        ((0.0, 0.0, 0.5), {"location": (4.0, 0.0, 0.0)}, (16, 16, 4)),  # from the face's left, its nose is to the left
        (
            (0.0, 0.0, 0.5),
            {"location": (0.0, 2.4, 3.2)},
            (32, 16 + 16 * 4 * 0.3 / 3.6, 3.6),
        ),  # from above: further down
        ((0.0, 0.0, 0.0), {"pose": (0.0, 0.1, 0.0)}, (32 - 32 * 4 * math.tan(0.1), 16, 4 * math.cos(0.1))),
        ((0.0, 0.0, 0.0), {"pose": (0.1, 0.0, 0.0)}, (32, 16 + 16 * 4 * math.tan(0.1), 4 * math.cos(0.1))),
        ((0.5, 0.0, 0.0), {"pose": (0.0, 0.0, math.pi / 2)}, (32, 8, 4)),  # counter-clockwise, from right to top
    ],
)
def test_projection(point, camera, expected):
    """Absolute pixels, computed by hand."""
    assert _seen(point, **camera) == pytest.approx(expected, abs=1e-4)


def test_raw_zeros_are_straight_in_front():
    """They give a camera at (0, 0, 4) with a focal length of 4, and a light at the same place with half strength."""
    camera, light = bounded_camera(torch.zeros(1, 7)), bounded_light(torch.zeros(1, 9))
    assert camera.location.tolist() == [[0, 0, 4]]
    assert camera.pose.tolist() == [[0, 0, 0]]
    assert camera.focal.tolist() == [4]
    assert light.location.tolist() == [[0, 0, 4]]
    assert light.colour.tolist() == light.ambient.tolist() == [[0.5, 0.5, 0.5]]


@pytest.mark.parametrize("scale", [0.5, 3.0, 1e6])
def test_any_parameters_give_a_camera_that_sees_the_mesh(scale):
    """The centre of the mesh is in the image, and no vertex of any decoded mesh is behind the camera."""
    camera = bounded_camera(_random(2000, 7, scale=scale))
    x, y, depth = project(torch.zeros(2000, 1, 3).double(), camera, 64, 64)[:, 0].unbind(dim=1)
    assert min(x.min(), y.min()) > 0
    assert max(x.max(), y.max()) < 64
    farthest = 1 + FARTHEST_OFFSET * math.sqrt(3)
    ball = torch.nn.functional.normalize(_random(2000, 50, 3, seed=1), dim=-1) * farthest
    assert project(ball, camera, 64, 64)[..., 2].min() > 0.5
    assert depth.min() > 2.4


def test_gradients_of_the_camera():
    """The gradients of vertices and raw parameters agree with finite differences."""

    def run(vertices, raw):
        return project(vertices, bounded_camera(raw), 8, 6)

    assert gradcheck(run, (_random(2, 4, 3, scale=0.5).requires_grad_(), _random(2, 7, seed=1).requires_grad_()))


# Light -----------------------------------------------------------------------------------------------------------

FACING = [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]  # its outside is towards +z


def test_a_surface_that_faces_the_light_has_full_light():
    """At the corner below the light n·l is 1: colour · (ambient + light)."""
    seen = shaded(torch.tensor([FACING]), torch.full((1, 3, 3), 0.5), torch.tensor([[0, 1, 2]]), _light())
    torch.testing.assert_close(seen[0, 0], torch.tensor([0.35, 0.40, 0.45]))


def test_oblique_light_counts_by_its_cosine():
    """From (3, 0, 4) to the corner at 0 the cosine is 0.8."""
    light = _light(location=(3.0, 0.0, 4.0))
    seen = shaded(torch.tensor([FACING]), torch.full((1, 3, 3), 0.5), torch.tensor([[0, 1, 2]]), light)
    torch.testing.assert_close(seen[0, 0], torch.tensor([0.30, 0.35, 0.40]))


def test_a_surface_that_is_turned_away_has_only_ambient_light():
    """The same triangle with reversed orientation is lit from behind."""
    seen = shaded(torch.tensor([FACING]), torch.full((1, 3, 3), 0.5), torch.tensor([[0, 2, 1]]), _light())
    torch.testing.assert_close(seen, torch.tensor([0.10, 0.15, 0.20]).expand(1, 3, 3))


def test_a_vertex_without_triangles_has_only_ambient_light():
    """It has no normal, which is not an error."""
    vertices = torch.tensor([[*FACING, [5.0, 5.0, 5.0]]])
    seen = shaded(vertices, torch.full((1, 4, 3), 0.5), torch.tensor([[0, 1, 2]]), _light())
    torch.testing.assert_close(seen[0, 3], torch.tensor([0.10, 0.15, 0.20]))


def test_gradients_of_the_light():
    """The gradients of vertices, colours and raw parameters agree with finite differences."""
    face = synthetic_face(2)
    triangles = torch.from_numpy(face.triangles)

    def run(vertices, colours, raw):
        return shaded(vertices, colours, triangles, bounded_light(raw))

    vertices, colours = torch.from_numpy(face.vertices)[None], torch.from_numpy(face.colours)[None]
    assert gradcheck(run, (vertices.requires_grad_(), colours.requires_grad_(), _random(1, 9).requires_grad_()))


# The rasteriser --------------------------------------------------------------------------------------------------


def test_a_triangle_is_drawn_where_it_is():
    """Pixels whose centres it covers have its colour, distant pixels the background's."""
    screen, colours, triangles = _triangle([[2.0, 1.0, 3.0], [2.0, 7.0, 3.0], [8.0, 7.0, 3.0]])
    picture = rasterise(screen, colours, triangles, 12, 8)[0]
    assert picture.shape == (3, 8, 12)
    red = torch.tensor([1.0, 0.0, 0.0])
    for column, row in ((2, 2), (2, 6), (6, 6), (3, 4)):
        torch.testing.assert_close(picture[:, row, column], red)
    for column, row in ((11, 0), (7, 2), (11, 7)):
        assert picture[:, row, column].tolist() == [0.5, 0.5, 0.5]


def test_beside_a_triangle_its_colour_fades():
    """Half a pixel from the edge is one σ: a share of exp(−1/2); the rest is background."""
    screen, colours, triangles = _triangle([[2.0, -20.0, 3.0], [2.0, 20.0, 3.0], [30.0, 0.0, 3.0]])
    picture = rasterise(screen, colours, triangles, 4, 4, background=0.0)[0]
    assert picture[0, 2].tolist() == pytest.approx([math.exp(-4.5), math.exp(-0.5), 1, 1], abs=1e-6)


def test_colours_are_interpolated_by_area_on_a_parallel_triangle():
    """The centre of the pixel (1, 2) of a right triangle has the barycentric coordinates 3/8, 1/4, 3/8."""
    screen = torch.tensor([[[0.0, 0.0, 2.0], [6.0, 0.0, 2.0], [0.0, 20 / 3, 2.0]]])
    picture = rasterise(screen, torch.eye(3)[None], torch.tensor([[0, 1, 2]]), 6, 7)[0]
    torch.testing.assert_close(picture[:, 2, 1], torch.tensor([3 / 8, 1 / 4, 3 / 8]))


def test_colours_are_interpolated_in_space_and_not_on_the_screen():
    """Half-way on the screen between depths 1 and 3 the nearer corner has three quarters: (1/1) / (1/1 + 1/3)."""
    screen = torch.tensor([[[0.5, 0.5, 1.0], [4.5, 0.5, 3.0], [0.5, 40.0, 1.0]]])
    colours = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
    picture = rasterise(screen, colours, torch.tensor([[0, 1, 2]]), 6, 3)[0]
    torch.testing.assert_close(picture[:, 0, 2], torch.tensor([0.75, 0.25, 0.0]))


@pytest.mark.parametrize("first", [0, 1])
def test_the_nearer_triangle_is_visible(first):
    """In either order of the triangles."""
    places = [[-9.0, -9.0], [30.0, -9.0], [-9.0, 30.0]]
    near, far = ([[*place, depth] for place in places] for depth in (2.0, 3.0))
    red, green = [[1.0, 0.0, 0.0]] * 3, [[0.0, 1.0, 0.0]] * 3
    screen, colours = torch.tensor([near + far]), torch.tensor([red + green])
    triangles = torch.tensor([[0, 1, 2], [3, 4, 5]])[[first, 1 - first]]
    picture = rasterise(screen, colours, triangles, 4, 4)
    torch.testing.assert_close(picture, torch.tensor([1.0, 0.0, 0.0])[None, :, None, None].expand(1, 3, 4, 4))


def test_neighbours_show_no_seam():
    """Two triangles of a square cover it evenly, also along the diagonal."""
    screen = torch.tensor([[[0.0, 0.0, 2.0], [8.0, 0.0, 2.0], [8.0, 8.0, 2.0], [0.0, 8.0, 2.0]]])
    picture = rasterise(screen, torch.ones(1, 4, 3), torch.tensor([[0, 1, 2], [0, 2, 3]]), 8, 8, background=0.0)
    torch.testing.assert_close(picture, torch.ones(1, 3, 8, 8))


def test_triangles_behind_the_camera_are_not_drawn():
    """One corner behind it is enough, because its projection is meaningless."""
    screen, colours, triangles = _triangle([[-9.0, -9.0, 3.0], [30.0, -9.0, 3.0], [-9.0, 30.0, -1.0]])
    assert (rasterise(screen, colours, triangles, 4, 4) == 0.5).all()


def test_a_triangle_seen_edge_on_is_not_drawn():
    """Image and gradients are finite."""
    screen, colours, triangles = _triangle([[1.0, 1.0, 3.0], [3.0, 3.0, 3.0], [2.0, 2.0, 4.0]])
    screen.requires_grad_()
    picture = rasterise(screen, colours, triangles, 4, 4)
    picture.sum().backward()
    assert (picture == 0.5).all()
    assert screen.grad.isfinite().all()


def test_non_finite_vertices_give_an_image_of_nan():
    """A training then stops; the other images are not affected."""
    screen, colours, triangles = _triangle([[-9.0, -9.0, 3.0], [30.0, -9.0, 3.0], [-9.0, 30.0, 3.0]])
    both = screen.repeat(2, 1, 1)
    both[1, 2, 0] = math.inf
    picture = rasterise(both, colours.repeat(2, 1, 1), triangles, 4, 4)
    assert picture[0].isfinite().all()
    assert picture[1].isnan().all()


def test_no_mesh_gives_no_image():
    """An empty batch is accepted."""
    assert rasterise(torch.zeros(0, 3, 3), torch.zeros(0, 3, 3), torch.tensor([[0, 1, 2]]), 4, 5).shape == (0, 3, 5, 4)


def _scattered(count):
    """Overlapping triangles at different depths, in float64, with their colours."""
    places = 6 + _random(count, 9, 2, scale=4)
    depths = 3 + _random(count, 9, 1, scale=0.3, seed=1)
    return torch.cat([places, depths], dim=-1), _random(count, 9, 3, seed=2).sigmoid()


@pytest.mark.parametrize("pairs_at_once", [40, 300])
def test_rendering_in_parts_changes_nothing(pairs_at_once):
    """Images and gradients equal those of rendering at once; 40 pairs are a few rows, 300 one or two images."""
    triangles = torch.arange(9).view(3, 3)
    results = []
    for at_once in (10**9, pairs_at_once):
        screen, colours = (value.requires_grad_() for value in _scattered(4))
        picture = rasterise(screen, colours, triangles, 12, 10, pairs_at_once=at_once)
        picture.square().sum().backward()
        results.append((picture.detach(), screen.grad, colours.grad))
    for whole, parts in zip(*results, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-10, atol=1e-12)


def test_gradients_of_the_rasteriser():
    """The gradients of positions, depths and colours agree with finite differences."""
    screen, colours = _scattered(1)
    triangles = torch.arange(9).view(3, 3)

    def run(screen, colours):
        return rasterise(screen, colours, triangles, 6, 6, softness=Softness(edge_px=1.5, depth=0.5))

    assert gradcheck(run, (screen.requires_grad_(), colours.requires_grad_()), atol=1e-6)


def test_an_edge_has_a_gradient():
    """For a triangle that is too small for a white image, the gradient moves its edge outwards."""
    screen, colours, triangles = _triangle([[2.2, -20.0, 3.0], [2.2, 20.0, 3.0], [30.0, 0.0, 3.0]], (1.0, 1.0, 1.0))
    screen.requires_grad_()
    (1 - rasterise(screen, colours, triangles, 4, 4, background=0.0)).abs().sum().backward()
    assert screen.grad[0, :2, 0].min() > 1  # a step against it moves the left edge to the left


# The branch ------------------------------------------------------------------------------------------------------


def test_the_head_has_a_row_per_anchor():
    """Row 1 · 3 · 2 + 2 · 2 + 1 is row 1, column 2, anchor 1 of a map of width 3 with two anchors per cell."""
    head = DenseHead(channels=4, anchors=2)
    features = _random(2, 4, 2, 3, dtype=torch.float32)
    rows = head(features)
    assert rows.shape == (2, 2 * 3 * 2, 144)
    expected = head.conv.weight[144:, :, 0, 0] @ features[1, :, 1, 2] + head.conv.bias[144:]
    torch.testing.assert_close(rows[1, 11], expected)


def test_the_pixel_loss_sums_colours_and_averages_pixels():
    """Differences of 0.5, 0.25 and 0 in red, green and blue make 0.75, at any image size."""
    rendered = torch.tensor([1.0, 0.25, 0.5])[None, :, None, None].expand(2, 3, 7, 5)
    assert pixel_loss(rendered, torch.full((2, 3, 7, 5), 0.5)).item() == pytest.approx(0.75)


def test_a_crop_has_the_pixels_of_the_box():
    """A box on pixel edges, cropped to its own size, gives its exact pixels; the index selects the image."""
    pictures = torch.rand(2, 3, 10, 12)
    crop = face_crops(pictures, torch.tensor([[3.0, 2.0, 7.0, 6.0]]), torch.tensor([1]), 4)
    torch.testing.assert_close(crop[0], pictures[1, :, 2:6, 3:7])


def test_without_positive_anchors_the_loss_is_zero():
    """It has a gradient, because a batch may have no face."""
    parameters = torch.zeros(0, 144, requires_grad=True)
    branch = DenseBranch(synthetic_face(2), crop_px=16)
    loss = branch.loss(parameters, torch.rand(1, 3, 8, 8), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert loss.item() == 0
    assert parameters.grad.shape == (0, 144)


def _positives(count, side=40):
    """`count` faces on two random images: parameters, images, boxes, indices."""
    boxes = torch.tensor([[4.0, 6.0, 28.0, 34.0]]).repeat(count, 1)
    index = torch.arange(count) % 2
    return _random(count, 144, scale=0.2, dtype=torch.float32), torch.rand(2, 3, side, side), boxes, index


def test_the_loss_compares_with_the_crops_at_the_boxes():
    """`loss` is the pixel loss between the output of `render` and the crops."""
    branch = DenseBranch(synthetic_face(3), crop_px=16)
    parameters, pictures, boxes, index = _positives(3)
    expected = (branch.render(parameters) - face_crops(pictures, boxes, index, 16)).abs().sum() / (3 * 16 * 16)
    torch.testing.assert_close(branch.loss(parameters, pictures, boxes, index), expected)


def test_a_sample_of_the_faces_is_rendered():
    """Five of nine faces get gradients, others in the next call; the same seed selects the same ones."""
    branch = DenseBranch(synthetic_face(2), crop_px=16, faces_at_most=5)
    chosen = []
    for seed in (1, 2, 1):
        parameters, *rest = _positives(9)
        torch.manual_seed(seed)
        branch.loss(parameters.requires_grad_(), *rest).backward()
        chosen.append(parameters.grad.abs().sum(dim=1).nonzero().flatten().tolist())
    assert [len(faces) for faces in chosen] == [5, 5, 5]
    assert chosen[0] == chosen[2] != chosen[1]


def test_the_renderer_does_not_use_autocast():
    """Under autocast to bfloat16 the images are equal, and parameters in bfloat16 are accepted."""
    branch = DenseBranch(synthetic_face(3), crop_px=16)
    parameters = _positives(2)[0]
    with torch.autocast("cpu", torch.bfloat16):
        inside = branch.render(parameters)
    torch.testing.assert_close(inside, branch.render(parameters), rtol=0, atol=0)
    assert branch.render(parameters.bfloat16()).dtype == torch.float32


def test_gradients_of_the_whole_branch():
    """The gradient of a loss in code, camera and light agrees with finite differences."""
    branch = DenseBranch(synthetic_face(2), crop_px=8, softness=Softness(edge_px=1.5, depth=0.5)).double()
    picture = torch.rand(1, 3, 20, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    boxes, index = torch.tensor([[2.0, 3.0, 15.0, 18.0]], dtype=torch.float64), torch.tensor([0])
    parameters = _random(1, 144, scale=0.5, seed=3).requires_grad_()
    assert gradcheck(lambda raw: branch.loss(raw, picture, boxes, index), (parameters,), atol=1e-6)


def test_each_part_of_the_branch_has_a_gradient():
    """Head, decoder, code, and each of the 16 parameters of camera and light have one."""
    branch, head = DenseBranch(synthetic_face(3), crop_px=24), DenseHead(6, 1)
    torch.nn.init.normal_(head.conv.weight, std=0.2)
    _, pictures, boxes, index = _positives(4)
    rows = head(_random(1, 6, 2, 2, dtype=torch.float32))[0]
    rows.retain_grad()
    branch.loss(rows, pictures, boxes, index).backward()
    assert (rows.grad.abs().sum(dim=0) > 0).all()
    for parameter in (*branch.decoder.parameters(), *head.parameters()):
        assert parameter.grad.abs().sum() > 0


def _grey(face):
    """The same mesh as a grey hemisphere, with neither the shape nor the colours of the face."""
    ball = face.vertices / np.linalg.norm(face.vertices, axis=1, keepdims=True)
    return replace(face, vertices=ball, colours=np.full_like(face.colours, 0.5))


def _targets(face, camera, light):
    """Four images of a face under different cameras and lights: (4, 3, 32, 32)."""
    torch.manual_seed(5)
    painter = DenseBranch(face, crop_px=32)
    parameters = torch.zeros(4, 144)
    parameters[:, CAMERA] = _random(4, 7, scale=camera, seed=1, dtype=torch.float32)
    parameters[:, LIGHT] = _random(4, 9, scale=light, seed=2, dtype=torch.float32)
    with torch.no_grad():
        return painter, painter.render(parameters)


def _fit(branch, targets, learns, *, with_decoder, steps, lr):
    """The loss before and after training some of the 144 parameters, with or without the decoder."""
    boxes = torch.tensor([[0.0, 0.0, 32.0, 32.0]]).repeat(4, 1)
    parameters = _random(4, 144, scale=0.01, seed=7, dtype=torch.float32).requires_grad_()
    mask = torch.zeros(144)
    for part in learns:
        mask[part] = 1
    groups = [{"params": [parameters], "lr": lr}]
    if with_decoder:
        groups.append({"params": list(branch.decoder.parameters()), "lr": lr / 5})
    optimizer = torch.optim.Adam(groups)
    losses = []
    for _ in range(steps + 1):
        optimizer.zero_grad()
        loss = branch.loss(parameters, targets, boxes, torch.arange(4))
        loss.backward()
        parameters.grad *= mask
        losses.append(loss.item())
        optimizer.step()
    return losses[0], losses[-1]


@pytest.mark.parametrize(("part", "camera", "light"), [(CAMERA, 0.8, 0.0), (LIGHT, 0.0, 1.5)], ids=["camera", "light"])
def test_camera_and_light_can_be_learnt_alone(part, camera, light):
    """With the target's mesh, training the camera (or the light) alone brings the loss below a fifth of its start."""
    painter, targets = _targets(synthetic_face(4), camera, light)
    first, last = _fit(painter, targets, [part], with_decoder=False, steps=30, lr=0.1)
    assert last < 0.2 * first


def test_shape_and_colours_can_be_learnt_alone():
    """Under the target's camera and light, a grey hemisphere becomes the face: below 0.35 of the first loss."""
    face = synthetic_face(4)
    _, targets = _targets(face, camera=0.0, light=0.0)
    torch.manual_seed(0)
    first, last = _fit(DenseBranch(_grey(face), crop_px=32), targets, [CODE], with_decoder=True, steps=40, lr=0.03)
    assert last < 0.35 * first


def test_the_branch_learns_a_face_from_images():
    """From a grey hemisphere, random weights and no camera, 50 steps bring the loss below a quarter of its start."""
    face = synthetic_face(4)
    _, targets = _targets(face, camera=0.5, light=1.0)
    torch.manual_seed(0)
    branch = DenseBranch(_grey(face), crop_px=32)
    first, last = _fit(branch, targets, [CODE, CAMERA, LIGHT], with_decoder=True, steps=50, lr=0.05)
    assert last < 0.25 * first
