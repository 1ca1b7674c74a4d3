# SPDX-License-Identifier: GPL-3.0-or-later
"""Camera paths through other programs' files, and by hand in each of their conventions."""

import json
import math

import numpy as np
import pytest
from evo.core.trajectory import PoseTrajectory3D
from evo.tools import file_interface

from backend.protocol import CameraPath, ProtocolError
from backend.protocol.camera_actions import CURRENT_KEYS, OLD_KEYS, action_path
from backend.protocol.camera_files import FORMATS, kind_of, read_recorded, write_camera
from backend.protocol.camera_parsing import Given
from backend.protocol.camera_recorded import Recorded
from tests.camera_file_names import NAMES

SIZE = (1280, 720)
LENS = (900.0, 910.0, 650.0, 350.0)
# The formats that hold a lens for each camera.
HOLD_LENS = {"SANA_WM", "TRANSFORMS", "REALESTATE10K", "COLMAP"}


def rotation(axis, angle):
    x, y, z = np.asarray(axis) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


def random_path(seed: int, lens=None) -> CameraPath:
    """A smooth path that turns past half a turn, with a zoom unless `lens` is given."""
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 1, 33)
    axis, start, speed = rng.normal(size=3), rng.normal(size=3), rng.normal(size=3)
    c2w = np.tile(np.eye(4), (33, 1, 1))
    c2w[:, :3, :3] = [rotation(start, 1.0) @ rotation(axis, 4 * t) for t in time]
    c2w[:, :3, 3] = start + np.outer(time, speed) + 0.2 * np.sin(5 * time)[:, None] * axis
    if lens is None:
        lens = np.array(LENS) + np.outer(time, [200, 200, 10, -10])
    return CameraPath(c2w, np.broadcast_to(lens, (33, 4)), SIZE)


def ahead(position=(1.0, 2.0, 3.0)) -> CameraPath:
    """A level camera that looks along Blender's +y: right is +x, down is -z."""
    c2w = np.eye(4)
    c2w[:3, :3] = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]]).T
    c2w[:3, 3] = position
    return CameraPath(c2w[None], np.array([LENS]), SIZE)


def same(read: Recorded, written: CameraPath, atol=1e-6):
    assert read.image_size == written.image_size
    assert len(read.c2w) == len(written.c2w)
    np.testing.assert_allclose(read.c2w, written.c2w, rtol=0, atol=atol)
    np.testing.assert_allclose(read.intrinsics, written.intrinsics, rtol=1e-6)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_path_comes_back(kind, seed, tmp_path):
    lens = None if kind in HOLD_LENS else (900, 900, 640, 360) if kind == "CHAN" else LENS
    camera, file = random_path(seed, lens), tmp_path / NAMES[kind]
    write_camera(file, kind, camera)
    given = Given(image_size=SIZE, intrinsics=lens)
    same(read_recorded(file, kind, given), camera)


def test_the_known_pose_in_every_convention(tmp_path):
    camera = ahead()
    for kind in set(FORMATS) - {"CHAN"}:
        write_camera(tmp_path / NAMES[kind], kind, camera)

    def words(name):
        return [float(w) for w in (tmp_path / name).read_text().splitlines()[-1].split()]

    # OpenCV's world: forward is z, down is y, so the camera is not turned and stands 3 m up at y = -3.
    pose = [[1, 0, 0, 1], [0, 1, 0, -3], [0, 0, 1, 2], [0, 0, 0, 1]]
    assert np.load(tmp_path / "gate_pose.npy").tolist() == [pose]
    assert np.load(tmp_path / "gate_pose.npy").dtype == np.float32
    assert np.load(tmp_path / "gate_intrinsics.npy").tolist() == [list(LENS)]
    assert words("kitti.txt") == [1, 0, 0, 1, 0, 1, 0, -3, 0, 0, 1, 2]
    assert words("tum.txt") == [0, 1, -3, 2, 0, 0, 0, 1]
    w2c = [1, 0, 0, -1, 0, 1, 0, 3, 0, 0, 1, -2]
    assert words("re10k.txt") == [0, 900 / 1280, 910 / 720, 650 / 1280, 350 / 720, 0, 0, *w2c]
    image = (tmp_path / "sparse" / "images.txt").read_text().split()
    assert [float(word) for word in image[:9]] == [1, 1, 0, 0, 0, -1, 3, -2, 1]
    assert (tmp_path / "sparse" / "cameras.txt").read_text() == "1 PINHOLE 1280 720 900.0 910.0 650.0 350.0\n"
    # OpenGL's camera in a world with z up: Blender's own matrix of a camera turned 90 degrees about x.
    frame = json.loads((tmp_path / "transforms.json").read_text())["frames"][0]
    assert frame["transform_matrix"] == [[1, 0, 0, 1], [0, 0, -1, 2], [0, 1, 0, 3], [0, 0, 0, 1]]


def test_nukes_pan_tilt_and_field_of_view(tmp_path):
    file = tmp_path / "camera.chan"
    file.write_text("1 1 3 -2 0 0 0 90\n17 1 3 -2 30 0 0 90\n33 1 3 -2 0 90 0 90\n")
    camera = read_recorded(file, "CHAN", Given(image_size=SIZE))
    assert np.diff(camera.times_s).tolist() == [1, 1]
    np.testing.assert_allclose(camera.intrinsics[0], [360, 360, 640, 360])
    np.testing.assert_allclose(camera.c2w[0], ahead().c2w[0], atol=1e-12)
    # Tilted 30 degrees up; then panned 90 degrees to the left, which is Blender's -x.
    np.testing.assert_allclose(camera.c2w[1, :3, 2], [0, math.cos(math.pi / 6), 0.5], atol=1e-12)
    np.testing.assert_allclose(camera.c2w[2, :3, 2], [-1, 0, 0], atol=1e-12)
    # Roll happens about the line of sight, whatever the pan and tilt.
    file.write_text("1 0 0 0 20 50 0\n2 0 0 0 20 50 90\n")
    rolled = read_recorded(file, "CHAN", Given(fps=16, image_size=SIZE, intrinsics=LENS))
    np.testing.assert_allclose(rolled.c2w[0, :3, 2], rolled.c2w[1, :3, 2], atol=1e-12)
    np.testing.assert_allclose(rolled.c2w[1, :3, 0], -rolled.c2w[0, :3, 1], atol=1e-12)
    for angles in ("90 20 0", "-90 20 0"):
        file.write_text(f"1 0 0 0 {angles} 60\n")
        read = read_recorded(file, "CHAN", Given(image_size=SIZE))
        straight = CameraPath(read.c2w, read.intrinsics, SIZE)
        write_camera(file, "CHAN", straight)
        same(read_recorded(file, "CHAN", Given(image_size=SIZE)), straight)
    with pytest.raises(ProtocolError, match="lens shift"):
        write_camera(file, "CHAN", ahead())


def test_a_lens_told_in_other_ways(tmp_path):
    matrix = np.eye(4).tolist()
    file = tmp_path / "transforms.json"
    frames = [
        {"file_path": f"r_{i}", "transform_matrix": [*matrix[:2], [0, 0, 1, i], matrix[3]]}
        for i in (10, 2, 1)
    ]
    file.write_text(json.dumps({"camera_angle_x": math.pi / 2, "frames": frames}))
    camera = read_recorded(file, "TRANSFORMS", Given(image_size=SIZE))
    np.testing.assert_allclose(camera.intrinsics, [[640, 640, 640, 360]] * 3)
    assert camera.c2w[:, 2, 3].tolist() == [1, 2, 10]  # in the order of their names
    np.save(tmp_path / "pose.npy", np.tile(np.eye(4), (2, 1, 1)))
    np.save(tmp_path / "intrinsics.npy", np.array([[800, 0, 600], [0, 810, 300], [0, 0, 1]]))
    camera = read_recorded(tmp_path / "pose.npy", "SANA_WM", Given(image_size=SIZE))
    assert camera.intrinsics.tolist() == [[800, 810, 600, 300]] * 2


TUM_LINE, KITTI_LINE = "0 0 0 0 0 0 0 1", "1 0 0 0 0 1 0 0 0 0 1 0"


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("TUM", f"{TUM_LINE}\n1 2 3\n", "Line 2 of tum.txt must hold 8 numbers .*, not 3"),
        ("TUM", f"{TUM_LINE}\n1 0 x 0 0 0 0 1\n", "Line 2 of tum.txt holds 'x'"),
        ("TUM", f"{TUM_LINE}\n1 0 nan 0 0 0 0 1\n", "Line 2 of tum.txt holds a number that is not finite"),
        ("TUM", "0 0 0 0 0 0 0 2\n", "Line 1 of tum.txt has a quaternion of length 2"),
        ("TUM", f"{TUM_LINE}\n{TUM_LINE}\n", "camera 2 is not later"),
        ("TUM", f"{TUM_LINE}\n1e9 0 0 0 0 0 0 1\n", "spans 1e.09 s"),
        ("TUM", "# nothing\n", "holds no camera"),
        ("KITTI", f"{KITTI_LINE}\n2{KITTI_LINE[1:]}\n", "camera 2 is scaled"),
        (
            "REALESTATE10K",
            f"url\n0 1 1 .5 .5 0.1 0 {KITTI_LINE}\n",
            "Line 2 of re10k.txt has lens distortion",
        ),
        ("CHAN", "1 0 0 0 0 0 0 60\n2 0 0 0 0 0 0\n", "some lines only"),
        ("CHAN", "1 0 0 0 0 0 0 180\n", "Line 1 of camera.chan has a field of view"),
        ("TRANSFORMS", '{\n"frames": [}', "Line 2 of transforms.json is not readable JSON"),
        ("TRANSFORMS", "{}", "no list of frames"),
        (
            "TRANSFORMS",
            '{"w": 1e999, "h": 9, "frames": [{"transform_matrix": [[1,0,0,0],[0,1,0,0],[0,0,1,0]]}]}',
            "w must",
        ),
        ("TRANSFORMS", '{"frames": [{"file_path": "a"}]}', r"Frame 1 \(a\) .* no transform_matrix"),
        (
            "TRANSFORMS",
            '{"k1": 0.1, "frames": [{"transform_matrix": [[1,0,0,0],[0,1,0,0],[0,0,1,0]]}]}',
            "distortion",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(kind, text, said, tmp_path):
    file = tmp_path / NAMES[kind]
    file.write_text(text)
    with pytest.raises(ProtocolError, match=said):
        read_recorded(file, kind, Given(image_size=SIZE, intrinsics=LENS))


@pytest.mark.parametrize(
    ("cameras", "images", "said"),
    [
        ("1 OPENCV 9 9 1 1 1 1 0 0 0 0", "", "Line 1 of cameras.txt has the camera model 'OPENCV'"),
        ("1 PINHOLE 9 9 1 1 1", "", "Line 1 of cameras.txt must hold 7 numbers"),
        (
            "1 SIMPLE_PINHOLE 9 9 1 1 1",
            "# x\n1 1 0 0 0 0 0 0 2 a.png\n\n",
            "Line 2 of images.txt names camera 2",
        ),
        ("1 SIMPLE_PINHOLE 9 9 1 1 1", "1 1 0 0 0 0 0\n", "Line 1 of images.txt must hold 9 numbers"),
    ],
)
def test_what_is_wrong_in_a_colmap_model(cameras, images, said, tmp_path):
    (tmp_path / "cameras.txt").write_text(cameras)
    (tmp_path / "images.txt").write_text(images)
    with pytest.raises(ProtocolError, match=said):
        read_recorded(tmp_path, "COLMAP")


@pytest.mark.parametrize("kind", sorted(set(FORMATS) - {"TRANSFORMS", "COLMAP", "SANA_WM"}))
def test_what_the_file_lacks_must_be_given(kind, tmp_path):
    file = tmp_path / NAMES[kind]
    lens = (900, 900, 640, 360)
    write_camera(file, kind, random_path(0, lens))
    with pytest.raises(ProtocolError, match="width and height"):
        read_recorded(file, kind, Given(intrinsics=lens))
    if kind in ("TUM", "KITTI"):
        with pytest.raises(ProtocolError, match="lens"):
            read_recorded(file, kind, Given(image_size=SIZE))
    with pytest.raises(ProtocolError, match="missing"):
        read_recorded(tmp_path / "nowhere.txt", kind, Given(image_size=SIZE, intrinsics=lens))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_says_what_it_is(kind, tmp_path):
    file = tmp_path / NAMES[kind]
    write_camera(file, kind, random_path(0, (900, 900, 640, 360)))
    assert kind_of(file) == kind
    if kind == "COLMAP":
        assert kind_of(file / "images.txt") == kind


@pytest.mark.parametrize(("name", "text"), [("a.txt", "1 2 3\n"), ("a.txt", ""), ("a.png", "x")])
def test_a_file_of_no_kind_is_refused(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ProtocolError, match="choose its format"):
        kind_of(tmp_path / name)


def test_evo_reads_our_trajectories_as_the_same_poses(tmp_path):
    camera = random_path(3, LENS)
    opencv_world = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # Blender's z is up, OpenCV's y is down
    poses = camera.c2w.copy()
    poses[:, :3] = opencv_world @ camera.c2w[:, :3]
    write_camera(tmp_path / "tum.txt", "TUM", camera)
    write_camera(tmp_path / "kitti.txt", "KITTI", camera)
    tum = file_interface.read_tum_trajectory_file(tmp_path / "tum.txt")
    kitti = file_interface.read_kitti_poses_file(tmp_path / "kitti.txt")
    np.testing.assert_allclose(tum.timestamps, np.arange(33) / 16)
    for trajectory in (tum, kitti):
        np.testing.assert_allclose(np.array(trajectory.poses_se3), poses, atol=1e-9)


def test_trajectories_of_evo_are_read_as_the_same_poses(tmp_path):
    camera = random_path(4, LENS)
    poses = camera.c2w.copy()
    poses[:, :3] = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]) @ camera.c2w[:, :3]
    trajectory = PoseTrajectory3D(poses_se3=list(poses), timestamps=np.arange(33) / 16)
    file_interface.write_tum_trajectory_file(tmp_path / "tum.txt", trajectory)
    file_interface.write_kitti_poses_file(tmp_path / "kitti.txt", trajectory)
    for kind in ("TUM", "KITTI"):
        file = tmp_path / NAMES[kind]
        assert kind_of(file) == kind
        same(read_recorded(file, kind, Given(image_size=SIZE, intrinsics=LENS)), camera)


def test_cameras_keep_their_own_times(tmp_path):
    file = tmp_path / "tum.txt"
    file.write_text("5.0 0 0 0 0 0 0 1\n5.3 0 0 3 0 0 0 1\n")
    recorded = read_recorded(file, "TUM", Given(image_size=SIZE, intrinsics=LENS))
    assert recorded.times_s.tolist() == [5.0, 5.3] and recorded.c2w[:, 1, 3].tolist() == [0, 3]


def test_old_keys_move_as_the_first_release_did():
    camera = action_path("w-8,jw-8", LENS, SIZE, OLD_KEYS)
    assert len(camera) == 17
    # The released rollout's last pose, in OpenCV's world: 9.6 degrees left, 0.7978 m ahead, 0.0376 m left.
    angle = math.radians(9.6)
    np.testing.assert_allclose(camera.c2w[16, :3, 3], [-0.0376, 0.7977664, 0], atol=2e-6)
    np.testing.assert_allclose(camera.c2w[16, :3, 2], [-math.sin(angle), math.cos(angle), 0], atol=1e-9)


def test_current_keys_strafe_turn_and_coast():
    camera = action_path("d-10, L-4,none-200", LENS, SIZE)
    heading = np.degrees(np.arctan2(camera.c2w[:, 0, 2], camera.c2w[:, 1, 2]))
    np.testing.assert_allclose(heading[:11], np.arange(11) * 0.6, atol=1e-9)  # at once at full speed
    assert np.abs(camera.c2w[:11, :3, 3]).max() == 0
    # L is a fresh press: turning stops, and 4 frames of 0.025 m to the camera's right follow.
    np.testing.assert_allclose(heading[11:], 6.0, atol=1e-9)
    right = camera.c2w[-1, :3, 0]
    np.testing.assert_allclose(camera.c2w[14, :3, 3], 0.1 * right, atol=1e-12)
    # Released, the speed falls to 1/e within a second; what remains of it adds up to 0.025 m per frame, ended.
    step = math.exp(-1 / 16)
    coasted = 0.025 * step * (1 - step**200) / (1 - step)
    np.testing.assert_allclose(camera.c2w[-1, :3, 3], (0.1 + coasted) * right, atol=1e-9)


@pytest.mark.parametrize(("key_map", "steepest"), [(CURRENT_KEYS, 60.0), (OLD_KEYS, 84.0)])
def test_the_camera_tilts_up_to_its_limit_and_walks_level(key_map, steepest):
    camera = action_path("i-200,w-1", LENS, SIZE, key_map)
    np.testing.assert_allclose(math.degrees(math.asin(camera.c2w[-1, 2, 2])), steepest, atol=1e-6)
    np.testing.assert_allclose(camera.c2w[-1, :3, 3], [0, key_map.shift_m, 0], atol=1e-12)


@pytest.mark.parametrize("text", ["", "w", "w-0", "w8", "w-8,,s-8", "q-8", "w-8.5", "w--8", "w-999999999"])
def test_what_is_no_action_is_refused(text):
    with pytest.raises(ProtocolError):
        action_path(text, LENS, SIZE)
