# SPDX-License-Identifier: GPL-3.0-or-later
"""The first frame carried over the blockout: what it shows lands where it belongs, the rest is filled."""

import numpy as np
import pytest

from backend.projection import project
from backend.projection.scene import RayScene, ray_directions
from backend.protocol import Blockout, CameraPath, ProtocolError
from backend.training import shapes

SIZE = (96, 54)
LOOK_ALONG_Y = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float64)
FLOOR, BOX, WALL = range(3)


def blockout(motion: np.ndarray | None = None, with_wall: bool = True) -> Blockout:
    """A floor, a box 5 m ahead and a wall 12 m ahead; `motion` (F, 4, 4) moves the box."""
    floor = shapes.turned(shapes.box(np.array([60, 60, 0.1])), 0, np.array([0, 20, -0.1]))
    box = shapes.turned(shapes.box(np.array([1.2, 1, 1.6])), 0.4, np.array([0.2, 5, 0]))
    wall = shapes.turned(shapes.box(np.array([24, 0.3, 4])), 0, np.array([0, 12, 0]))
    meshes = [floor, box, wall] if with_wall else [floor, box]
    vertices, faces = shapes.joined(meshes)
    return Blockout(
        vertices=vertices,
        faces=faces,
        face_object=np.repeat(np.arange(len(meshes)), [len(mesh[1]) for mesh in meshes]),
        object_names=np.array(["floor", "box", "wall"][: len(meshes)]),
        object_colors=np.array([[0.5, 0.45, 0.4], [0.8, 0.2, 0.1], [0.2, 0.4, 0.7]])[: len(meshes)],
        moving=np.array([BOX] if motion is not None else []),
        motion=motion[None] if motion is not None else np.zeros((0, 1, 4, 4)),
        background=np.array([0.6, 0.7, 0.9]),
    )


def camera(
    places: list | np.ndarray, yaw_deg: list | None = None, focal_px: list | None = None
) -> CameraPath:
    """At `places` (F, 3), looking along +y, turned to the left by `yaw_deg`."""
    places = np.asarray(places, np.float64)
    c2w = np.tile(np.eye(4), (len(places), 1, 1))
    for index in range(len(places)):
        angle = np.radians(yaw_deg[index]) if yaw_deg else 0.0
        turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
        c2w[index, :3, :3] = turn @ LOOK_ALONG_Y
    c2w[:, :3, 3] = places
    focal = np.array(focal_px if focal_px else [90.0] * len(places))
    centre = np.ones_like(focal)
    return CameraPath(c2w, np.stack([focal, focal, 48 * centre, 27 * centre], axis=1), SIZE)


def painted(points: np.ndarray) -> np.ndarray:
    """A smooth picture painted onto the world: a colour for every point (..., 3)."""
    x, y, z = np.moveaxis(np.nan_to_num(points), -1, 0)
    return np.stack(
        [
            0.5 + 0.3 * np.sin(0.9 * x + 0.3),
            0.5 + 0.3 * np.cos(0.7 * z + 0.4 * y),
            0.4 + 0.2 * np.sin(x + z),
        ],
        axis=-1,
    ).astype(np.float32)


def view(scene: RayScene, path: CameraPath, sample: int):
    return scene.cast(path.c2w[sample], path.intrinsics[sample], SIZE, sample)


def frames_of(world: Blockout, path: CameraPath, first_frame: np.ndarray) -> list:
    return list(project(world, path, first_frame, SIZE))


def test_a_camera_that_stands_still_gives_the_first_frame_bit_for_bit():
    noise = np.random.default_rng(3).random((SIZE[1], SIZE[0], 3)).astype(np.float32)
    for frame in frames_of(blockout(), camera([[0, 0, 1.5]] * 3), noise):
        assert frame.visible.min() == 1
        np.testing.assert_array_equal(frame.base, noise)


@pytest.mark.parametrize("column, row", [(0.9985, 0.0), (0.0, 0.9985), (-0.9985, -0.9985)])
def test_a_place_just_inside_of_the_picture_may_be_rounded_out_of_it(column, row):
    path = camera([[0, 0, 1.5]] * 2)
    path.intrinsics[1, 2:] -= column, row
    noise = np.random.default_rng(3).random((SIZE[1], SIZE[0], 3)).astype(np.float32)
    frame = frames_of(blockout(), path, noise)[1]
    step_u, step_v = round(column), round(row)
    inner = slice(2, -2)
    shifted = np.roll(noise, (-step_v, -step_u), axis=(0, 1))
    seen = frame.visible[inner, inner] > 0.99
    assert seen.mean() > 0.7
    np.testing.assert_allclose(frame.base[inner, inner][seen], shifted[inner, inner][seen], atol=0.01)


@pytest.mark.parametrize(
    "move",
    [
        {"places": [[0, 0, 1.5], [0.8, 0.5, 1.6]]},
        {"places": [[0, 0, 1.5]] * 2, "yaw_deg": [0, 14]},
        {"places": [[0, 0, 1.5]] * 2, "focal_px": [90, 140]},
        {"places": [[0.3, 0, 1.2], [-0.9, -1, 2.0]], "yaw_deg": [4, -6], "focal_px": [90, 80]},
    ],
    ids=["truck", "pan", "zoom", "free"],
)
def test_what_both_cameras_see_shows_the_same_paint(move):
    world = blockout()
    path, scene = camera(**move), RayScene(world)
    first, second = (view(scene, path, sample) for sample in (0, 1))
    frame = frames_of(world, path, painted(first.points))[1]
    seen = (frame.visible > 0.99) & ~second.is_sky
    assert seen.mean() > 0.3
    error = np.abs(frame.base - painted(second.points))[seen]
    assert np.percentile(error, 98) < 0.02, f"98th percentile of the paint's error {np.percentile(error, 98)}"


def test_visible_means_that_the_first_camera_sees_the_point():
    """Against straight lines from the first camera, away from outlines where pixels are mixed."""
    world = blockout()
    path, scene = camera([[0, 0, 1.5], [1.5, 1, 1.5]]), RayScene(world)
    first, second = (view(scene, path, sample) for sample in (0, 1))
    frame = frames_of(world, path, painted(first.points))[1]
    solid = ~second.is_sky
    points = second.points[solid]
    local = (points - path.c2w[0, :3, 3]) @ path.c2w[0, :3, :3]
    u, v = (
        path.intrinsics[0, axis] * local[:, axis] / local[:, 2] + path.intrinsics[0, 2 + axis]
        for axis in (0, 1)
    )
    inside = (local[:, 2] > 0) & (u > 1) & (v > 1) & (u < SIZE[0] - 1) & (v < SIZE[1] - 1)
    origin = np.broadcast_to(path.c2w[0, :3, 3], points.shape)
    expected = inside & scene.visible_between(origin, points, 0, margin_m=0.02)
    agreement = np.mean((frame.visible[solid] > 0.5) == expected)
    assert 0.05 < np.mean(~expected) < 0.95
    assert agreement > 0.97, f"visibility agrees for {agreement:.1%} of the pixels"


def test_a_moving_object_takes_its_paint_along_and_uncovers_a_hole():
    motion = np.tile(np.eye(4), (2, 1, 1))
    motion[1, 0, 3] = 0.7
    world = blockout(motion)
    path, scene = camera([[0, 0, 1.5]] * 2), RayScene(world)
    first, second = (view(scene, path, sample) for sample in (0, 1))
    frame = frames_of(world, path, painted(first.points))[1]
    on_box = (second.object_id == BOX) & (frame.visible > 0.99)
    before = second.points[on_box] - motion[1, :3, 3]
    assert on_box.sum() > 50
    assert np.percentile(np.abs(frame.base[on_box] - painted(before)), 95) < 0.03
    uncovered = (first.object_id == BOX) & (second.object_id != BOX)
    assert uncovered.sum() > 20
    assert frame.visible[uncovered].mean() < 0.3


def test_the_sky_turns_with_a_pan_and_does_not_move_with_a_truck():
    world = blockout(with_wall=False)
    pan, truck = camera([[0, 0, 1.5]] * 2, [0, 8]), camera([[0, 0, 1.5], [2, 0, 1.5]])

    def sky_paint(path: CameraPath, sample: int) -> np.ndarray:
        rays = ray_directions(path.c2w[sample], path.intrinsics[sample], SIZE[0], np.arange(SIZE[1]))
        rays = rays / np.linalg.norm(rays, axis=-1, keepdims=True)
        return 0.5 + 0.4 * np.sin(6 * rays).astype(np.float32)

    for path in (pan, truck):
        frame = frames_of(world, path, sky_paint(path, 0))[1]
        seen = frame.is_sky & (frame.visible > 0.99)
        assert seen.sum() > 100
        assert np.abs(frame.base - sky_paint(path, 1))[seen].max() < 0.02


def test_holes_get_the_viewport_colours_in_the_first_frames_grade():
    world = blockout()
    path, scene = camera([[0, 0, 1.5], [1.4, 2, 1.7]], [0, 25]), RayScene(world)
    grade = np.array([[0.7, 0.2, 0.0], [0.1, 0.6, 0.1], [0.0, 0.1, 0.8]], np.float32)

    def graded(sample: int) -> np.ndarray:
        return view(scene, path, sample).color @ grade.T + 0.05

    frame = frames_of(world, path, graded(0))[1]
    holes = (frame.visible < 0.01) & ~frame.is_sky
    assert holes.mean() > 0.1
    error = np.abs(frame.base - graded(1))[holes]
    unmatched = np.abs(frame.guide - graded(1))[holes]
    assert error.mean() < 0.01 < 0.03 < unmatched.mean(), f"mean error in holes {error.mean():.3f}"


def test_a_blockout_without_geometry_is_all_sky():
    grey = np.full((54, 96, 3), 0.3, np.float32)
    frames = frames_of(Blockout.empty(), camera([[0, 0, 1]] * 2, [0, 30]), grey)
    assert frames[1].is_sky.all() and np.isfinite(frames[1].base).all()
    assert np.abs(frames[1].base - 0.3).max() < 0.02


def test_depth_agrees_with_ray_triangle_intersection_in_double_precision():
    world = blockout()
    path, scene = camera([[0.3, -0.5, 1.4]], [7]), RayScene(world)
    hits = view(scene, path, 0)
    rays = ray_directions(path.c2w[0], path.intrinsics[0], SIZE[0], np.arange(SIZE[1])).astype(np.float64)
    corners = world.vertices.astype(np.float64)[world.faces]
    for row, column in [(40, 50), (30, 47), (10, 20), (53, 0), (2, 90), (27, 70)]:
        expected = _nearest(path.c2w[0, :3, 3], rays[row, column], corners)
        assert hits.depth_m[row, column] == pytest.approx(expected, rel=1e-4), (row, column)


def _nearest(origin: np.ndarray, direction: np.ndarray, corners: np.ndarray) -> float:
    """Distance in units of the direction to the nearest of the triangles (T, 3, 3), by solving for it."""
    nearest = np.inf
    for a, b, c in corners:
        system = np.stack([-direction, b - a, c - a], axis=1)
        if abs(np.linalg.det(system)) < 1e-12:
            continue
        distance, s, t = np.linalg.solve(system, origin - a)
        if distance > 0 and s >= 0 and t >= 0 and s + t <= 1:
            nearest = min(nearest, distance)
    return nearest


def test_a_blockout_without_motion_for_a_sample_is_refused():
    world = blockout(np.tile(np.eye(4), (2, 1, 1)))
    with pytest.raises(ProtocolError, match="no sample 2; export"):
        frames_of(world, camera([[0, 0, 1.5]] * 3), np.zeros((54, 96, 3), np.float32))


def test_single_rays_meet_what_whole_pictures_show():
    motion = np.tile(np.eye(4), (2, 1, 1))
    motion[1, 0, 3] = 0.7
    scene, path = RayScene(blockout(motion)), camera([[0, 0, 1.5], [0.4, 0.3, 1.6]])
    for sample in (0, 1):
        seen = view(scene, path, sample)
        c2w = path.c2w[sample]
        directions = ray_directions(c2w, path.intrinsics[sample], SIZE[0], np.arange(SIZE[1])).reshape(-1, 3)
        distance, object_id = scene.first_hits(c2w[:3, 3], directions, sample)
        assert set(np.unique(object_id)) == {-1, FLOOR, BOX, WALL}
        np.testing.assert_array_equal(object_id, seen.object_id.ravel())
        np.testing.assert_allclose(distance, seen.depth_m.ravel(), rtol=1e-6)
    with pytest.raises(ProtocolError, match="no sample 2"):
        scene.first_hits(np.zeros(3), np.ones((1, 3)), 2)


def test_edges_in_the_holes_are_as_smooth_as_those_that_were_seen():
    """Against viewport colours averaged over 8 x 8 places of every pixel, where one ray has a stair."""
    world, factor = blockout(), 8
    path, scene = camera([[0, 0, 1.5], [1.2, 0.5, 1.5]], yaw_deg=[0, 30]), RayScene(world)
    frame = frames_of(world, path, view(scene, path, 0).color)[1]
    fine = scene.cast(path.c2w[1], factor * path.intrinsics[1], (factor * SIZE[0], factor * SIZE[1]), 1)
    cells = fine.color.reshape(SIZE[1], factor, SIZE[0], factor, 3)
    smooth, stairs = cells.mean((1, 3)), view(scene, path, 1).color
    edges = (frame.visible == 0) & (cells.std((1, 3)).max(-1) > 0.03)
    assert edges.sum() > 30
    made, without = (np.sqrt(np.square(picture - smooth)[edges].mean()) for picture in (frame.base, stairs))
    assert made < 0.5 * without, f"edges in holes are {made:.3f} off, with one ray a pixel {without:.3f}"
