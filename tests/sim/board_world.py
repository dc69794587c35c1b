"""A calibration board on the table of the simulated arm, seen by its cameras; what is true is known."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import cv2
import mujoco
import numpy as np

from robopolicy_datasets.geometry import pose_matrix, relative_pose
from robopolicy_drivers.calibration.boards import find_board
from robopolicy_drivers.calibration.intrinsics import CameraIntrinsics
from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_sim.rendering import Renderer
from robopolicy_sim.tasks.pick_place import PickPlaceScene
from robopolicy_sim.worlds.mjcf import add, section
from robopolicy_sim.worlds.model import world_xml
from robopolicy_sim.worlds.scenery import pictures

MARGIN_PIXELS = 140  # white around the pattern, half a square
WIDTH, HEIGHT = 640, 480
CAMERA_TO_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])  # MuJoCo's cameras look along -z, OpenCV's along z


class BoardWorld:
    """The tabletop with a board lying on it."""

    def __init__(self, board):
        self.board, self.random = board, np.random.default_rng(3)
        pattern = np.pad(board.pattern(), MARGIN_PIXELS, constant_values=255)
        square_pixels = board.pattern().shape[1] / board.config.squares_x
        self.half = 0.5 * np.array(pattern.shape[::-1]) / square_pixels * board.config.square
        root = ElementTree.fromstring(world_xml(PickPlaceScene(), [load_embodiment("ur5e")]))
        asset = section(root, "asset")
        add(asset, "texture", name="board", type="2d", file="board.png")
        add(asset, "material", name="board", texture="board", texrepeat=(1, 1), specular=0, shininess=0)
        body = add(section(root, "worldbody"), "body", name="board", pos=(0.50, 0.02, 0.004))
        size = (*self.half, 0.01)
        add(body, "geom", type="plane", size=size, material="board", contype="0", conaffinity="0")
        text = ElementTree.tostring(root, encoding="unicode")
        png = cv2.imencode(".png", pattern)[1].tobytes()
        self.model = mujoco.MjModel.from_xml_string(text, {**pictures(), "board.png": png})
        self.data = mujoco.MjData(self.model)
        self.renderer = Renderer(self.model)
        self.home = load_embodiment("ur5e").home_positions
        self.model.geom_rgba[self.model.body("cube").geomadr[0]] = (0, 0, 0, 0)
        self.move(self.home)

    def move(self, joints):
        self.data.qpos[: len(joints)] = joints
        cube = int(self.model.joint("cube").qposadr[0])
        self.data.qpos[cube : cube + 3] = (-0.6, 0.0, 0.02)  # out of the way, as is the pad
        self.data.mocap_pos[0] = (-0.6, 0.2, 0.0)
        mujoco.mj_forward(self.model, self.data)

    def image(self, camera):
        return self.renderer.render(self.data, self.model.camera(camera).id, width=WIDTH, height=HEIGHT)

    def intrinsics(self, camera):
        """The true ones: MuJoCo's image plane is centred and its pixels are squares."""
        field = np.radians(self.model.cam_fovy[self.model.camera(camera).id])
        focal = 0.5 * HEIGHT / np.tan(0.5 * field)
        matrix = np.array([[focal, 0, 0.5 * (WIDTH - 1)], [0, focal, 0.5 * (HEIGHT - 1)], [0, 0, 1]])
        return CameraIntrinsics((WIDTH, HEIGHT), matrix, np.zeros(5), 0.0, "")

    def camera_pose(self, camera):
        index = self.model.camera(camera).id
        pose = pose_matrix(self.data.cam_xpos[index], self.data.cam_xmat[index].reshape(3, 3))
        return pose @ CAMERA_TO_OPENCV

    def tool_pose(self):
        index = self.model.site("tcp").id
        return pose_matrix(self.data.site_xpos[index], self.data.site_xmat[index].reshape(3, 3))

    def board_pose(self):
        """Of the pattern's frame: its first corner is at the plane's upper left, z goes into the board."""
        index = self.model.body("board").id
        plane = pose_matrix(self.data.xpos[index], self.data.xmat[index].reshape(3, 3))
        margin = MARGIN_PIXELS / (self.board.pattern().shape[1] / self.board.config.squares_x)
        margin *= self.board.config.square
        corner = pose_matrix(np.array([-self.half[0] + margin, self.half[1] - margin, 0.0]), np.eye(3))
        return plane @ corner @ CAMERA_TO_OPENCV

    def camera_in_tool(self, camera):
        return relative_pose(self.tool_pose(), self.camera_pose(camera))

    def views(self, camera, count, least_corners, reach=0.35):
        """Views of the board from robot poses around home, with those poses ``[count, 4, 4]``."""
        views, poses = [], []
        while len(views) < count:
            self.move(self.home + self.random.uniform(-reach, reach, len(self.home)))
            view = find_board(self.board, self.image(camera), f"{len(views):02}")
            if view is not None and len(view.ids) >= least_corners:
                views.append(view)
                poses.append(self.tool_pose())
        return views, np.array(poses)

    def board_in_camera(self, camera):
        return relative_pose(self.camera_pose(camera), self.board_pose())
