"""Robots from users' MJCF and URDF files: kinematics as MuJoCo's own, shapes that are drawn and collide."""

import struct
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from robopolicy_datasets.errors import ConfigError, UnknownNameError
from robopolicy_datasets.geometry import pose_matrix
from robopolicy_drivers.control.kinematics import Kinematics
from robopolicy_drivers.embodiments import load_embodiment
from robopolicy_sim.experts.collecting import collect_episode
from robopolicy_sim.experts.configs import ScriptedConfig
from robopolicy_sim.experts.pick_place import PickPlaceExpert
from robopolicy_sim.rendering import import_mujoco
from robopolicy_sim.tasks.configs import PickPlaceConfig
from robopolicy_sim.tasks.pick_place import PickPlaceEnv, PickPlaceScene
from robopolicy_sim.worlds.arm_model import add_robot
from robopolicy_sim.worlds.mjcf import add, section
from robopolicy_sim.worlds.scenery import add_appearance
from robopolicy_sim.worlds.user_model import find_embodiment
from robopolicy_sim.worlds.world import World

mujoco = import_mujoco()

ARM = """
<mujoco>
  <compiler angle="radian" autolimits="true"/>
  <asset><mesh name="wedge" file="wedge.stl"/><material name="blue" rgba="0 0 1 1"/></asset>
  <worldbody>
    <geom type="plane" size="3 3 1"/>
    <geom name="foot" type="cylinder" size="0.1 0.05" pos="0 0 0.05"/>
    <body name="first" pos="0.1 0 0.2" euler="0.1 0.2 0.3">
      <joint name="a" axis="0 0 2" range="-2 2" pos="0.05 0.02 0" ref="0.3" actuatorfrcrange="-50 50"/>
      <geom type="mesh" mesh="wedge" material="blue" pos="0 0 0.1" mass="2"/>
      <body name="second" pos="0 0 0.4" quat="0.8 0 0.6 0">
        <joint name="b" axis="1 1 0" range="-1 3" actuatorfrcrange="-30 30"/>
        <inertial pos="0.1 0 0" mass="1.5" diaginertia="0.02 0.03 0.04" euler="0.4 0 0"/>
        <geom type="capsule" fromto="0 0 0 0.2 0 0" size="0.03"/>
        <body name="fixed" pos="0.1 0 0.05"><geom size="0.04" mass="0.5"/>
          <body name="third" pos="0.1 0 0.1">
            <joint name="c" axis="0 1 0" range="-1.5 1.5"/>
            <geom type="box" size="0.02 0.03 0.04" mass="0.4"/>
            <site name="tcp" pos="0 0.01 0.1" euler="0 0.5 0"/>
          </body>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator>
    <position name="c" joint="c" kp="700" kv="30" forcerange="-12 12"/>
  </actuator>
  <keyframe><key name="other" qpos="0 0 0"/><key name="home" qpos="0.5 0.25 -0.5"/></keyframe>
</mujoco>
"""

MOMENTS = '<inertia ixx="0.02" iyy="0.02" izz="0.02" ixy="0" ixz="0" iyz="0"/>'
MESH = '<geometry><mesh filename="wedge.stl" scale="1 1 2"/></geometry>'
URDF = f"""
<robot name="two">
  <mujoco><compiler fusestatic="false"/></mujoco>
  <link name="base"/>
  <link name="upper"><inertial><mass value="1.2"/>{MOMENTS}</inertial><visual>{MESH}</visual>
    <collision><geometry><box size="0.1 0.1 0.3"/></geometry></collision></link>
  <link name="lower"><inertial><mass value="0.8"/>{MOMENTS}</inertial><collision>{MESH}</collision></link>
  <link name="tcp"/>
  <joint name="shoulder" type="revolute"><parent link="base"/><child link="upper"/>
    <origin xyz="0.1 0.2 0.3" rpy="0.1 0.2 0.3"/><axis xyz="0 0 1"/>
    <limit lower="-1" upper="2" effort="40" velocity="1.5"/></joint>
  <joint name="elbow" type="revolute"><parent link="upper"/><child link="lower"/>
    <origin xyz="0 0 0.4" rpy="0 1.2 0"/><axis xyz="0 0.6 0.8"/>
    <limit lower="0.5" upper="2" effort="20" velocity="2.5"/></joint>
  <joint name="flange" type="fixed"><parent link="lower"/><child link="tcp"/>
    <origin xyz="0.3 0 0.1" rpy="0 0 1"/></joint>
</robot>
"""


def write_wedge(path):
    """Writes a tetrahedron of 10 cm as a binary STL file."""
    corners = 0.1 * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]])
    faces = [(0, 2, 1), (0, 1, 3), (0, 3, 2), (1, 2, 3)]
    triangles = b"".join(struct.pack("<12fH", 0, 0, 0, *corners[list(face)].ravel(), 0) for face in faces)
    path.write_bytes(bytes(80) + struct.pack("<I", len(faces)) + triangles)


@pytest.fixture
def write(tmp_path):
    """Writes a robot file beside its mesh."""
    write_wedge(tmp_path / "wedge.stl")

    def write_file(name, text):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write_file


@pytest.mark.parametrize(("name", "text"), [("arm.xml", ARM), ("two.urdf", URDF)])
def test_kinematics_and_jacobian_equal_mujocos_of_the_file(write, name, text):
    path = write(name, text)
    body = find_embodiment(path)
    kinematics = Kinematics(body)
    model = mujoco.MjModel.from_xml_path(path)
    data = mujoco.MjData(model)
    linear, angular = np.zeros((2, 3, model.nv))
    for seed in range(20):
        positions = np.random.default_rng(seed).uniform(-3, 3, model.nq)
        data.qpos[:] = positions
        mujoco.mj_forward(model, data)
        if name.endswith("xml"):
            site = data.site("tcp")
            found = pose_matrix(site.xpos, site.xmat.reshape(3, 3))
            mujoco.mj_jacSite(model, data, linear, angular, site.id)
        else:
            link = data.body("tcp")
            found = pose_matrix(link.xpos, link.xmat.reshape(3, 3))
            mujoco.mj_jacBody(model, data, linear, angular, link.id)
        pose, jacobian = kinematics.forward_and_jacobian(positions)
        np.testing.assert_allclose(pose, found, atol=1e-6)
        np.testing.assert_allclose(jacobian, np.vstack([linear, angular]), atol=1e-6)


def test_an_mjcf_file_says_what_the_embodiment_has(write):
    body = find_embodiment(write("arm.xml", ARM))
    assert (body.name, body.joint_names) == ("arm", ("a", "b", "c"))
    np.testing.assert_allclose(body.home, (0.5, 0.25, -0.5))
    np.testing.assert_allclose(body.position_limits, [(-2, 2), (-1, 3), (-1.5, 1.5)])
    np.testing.assert_allclose(body.effort_limits, (50, 30, 12))
    assert (body.joints[2].stiffness, body.joints[2].damping) == (700, 30)
    np.testing.assert_allclose([joint.mass for joint in body.joints], (2.0, 2.0, 0.4))
    assert (body.gripper, body.cameras, body.base_type) == (None, (), "fixed")
    # Two bodies that move as one: the center of mass lies between them.
    assert body.joints[1].center_of_mass[2] == pytest.approx(0.25 * 0.05)


def test_a_urdf_file_says_what_the_embodiment_has(write):
    body = find_embodiment(write("two.urdf", URDF))
    np.testing.assert_allclose(body.velocity_limits, (1.5, 2.5))
    np.testing.assert_allclose(body.effort_limits, (40, 20))
    np.testing.assert_allclose(body.home, (0.0, 0.5))
    np.testing.assert_allclose([joint.mass for joint in body.joints], (1.2, 0.8))


def ur5e_with_meshes(path):
    """Writes our UR5e as a user would have it: MJCF with a mesh on the hand, without our names for servos."""
    body = load_embodiment("ur5e")
    root = ElementTree.Element("mujoco")
    add(root, "compiler", angle="radian", autolimits="true")
    add_appearance(root)
    add_robot(root, body)
    add(section(root, "asset"), "mesh", name="wedge", file="wedge.stl")
    for unknown in ("tendon", "equality", "actuator"):
        root.remove(root.find(unknown))
    for joint in root.iter("joint"):
        if joint.get("name", "").startswith("finger"):
            joint.set("actuatorfrcrange", "-15 15")
    hand = next(element for element in root.iter("body") if element.get("name") == "hand")
    bumper = add(hand, "body", name="bumper", pos=(0.0, 0.0, -0.13))
    add(bumper, "geom", type="mesh", mesh="wedge", rgba=(1, 0, 1, 1), mass=0)
    add(section(root, "keyframe"), "key", name="home", qpos=(*body.home, 0.04, 0.04))
    path.write_text(ElementTree.tostring(root, encoding="unicode"))
    return body


def test_a_task_runs_with_a_users_robot_and_its_mesh_is_drawn_and_collides(tmp_path):
    write_wedge(tmp_path / "wedge.stl")
    path = tmp_path / "mine.xml"
    ours = ur5e_with_meshes(path)
    env = PickPlaceEnv(PickPlaceConfig(embodiment=str(path), image_size=32))
    body = env.world.robot.embodiment
    np.testing.assert_allclose(body.gripper.max_width, ours.gripper.max_width)
    np.testing.assert_allclose(body.gripper.mass, ours.gripper.mass, rtol=1e-6)
    np.testing.assert_allclose(body.mass, ours.mass, rtol=1e-6)
    np.testing.assert_allclose(body.cameras[0].pose.matrix, ours.cameras[0].pose.matrix, atol=1e-6)
    infos = [
        collect_episode(env, PickPlaceExpert, ScriptedConfig(), np.random.default_rng(seed))[1]
        for seed in range(4)
    ]
    assert sum(info.success for info in infos) >= 3
    assert infos[0].embodiment == "mine"
    model = env.world.model
    meshes = np.flatnonzero(model.geom_type == mujoco.mjtGeom.mjGEOM_MESH)
    assert len(meshes) == 1
    assert model.geom_conaffinity[meshes[0]] == 1
    # As tall as the wedge, and where the file puts it on the hand.
    vertices = model.mesh_vert[: model.mesh_vertnum[0]]
    world = World(PickPlaceScene(), [str(path)])
    place = pose_matrix(world.data.geom_xpos[meshes[0]], world.data.geom_xmat[meshes[0]].reshape(3, 3))
    corners = np.linalg.inv(world.robot.tcp_pose) @ place @ np.c_[vertices, np.ones(4)].T
    np.testing.assert_allclose(corners[:3].min(axis=1), (0, 0, -0.13), atol=1e-6)
    np.testing.assert_allclose(corners[:3].max(axis=1), (0.1, 0.1, -0.03), atol=1e-6)
    image = world.render("video", 160, 120).astype(int)
    assert np.sum((image[..., 0] > 90) & (image[..., 2] > 90) & (image[..., 1] < 40)) > 3


def test_planes_of_the_file_are_left_out_and_the_base_is_drawn(write):
    shell = find_embodiment(write("arm.xml", ARM)).shell
    kinds = {name: [shape.attributes["type"] for shape in shapes] for name, shapes in shell.shapes.items()}
    assert kinds == {
        "base": ["cylinder"],
        "link1": ["mesh"],
        "link2": ["capsule", "sphere"],
        "link3": ["box"],
    }
    np.testing.assert_allclose(shell.shapes["link1"][0].attributes["rgba"], (0, 0, 1, 1))


def test_where_a_link_has_a_visual_its_collision_shape_is_not_drawn(write):
    shell = find_embodiment(write("two.urdf", URDF)).shell
    drawn = [(shape.attributes["type"], shape.attributes["group"]) for shape in shell.shapes["link1"]]
    assert sorted(drawn) == [("box", 4), ("mesh", 0)]
    assert shell.shapes["link2"][0].attributes["group"] == 0


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('name="tcp"', 'name="tip"', r"no site 'tcp' \(it has: tip\). Add one between the finger tips"),
        ('range="-1.5 1.5"', "", "joint 'c' no limits. Add range"),
        ('forcerange="-12 12"', "", "does not limit the force of its joint 'c'. Add actuatorfrcrange"),
        ('name="c" axis', 'name="c" type="slide" axis', "by the joint 'c', which is no hinge"),
        ('<geom size="0.04" mass="0.5"/>', '<body><joint name="d"/><geom size="1"/></body>',
         "has the joints d beside the arm's 3"),
        ("wedge.stl", "nothing.stl", "MuJoCo cannot read the robot file .*nothing.stl"),
        ("<worldbody>", "<worldbuddy>", "MuJoCo cannot read the robot file"),
    ],
)  # fmt: skip
def test_what_a_file_lacks_is_said_with_what_to_add(write, old, new, reason):
    assert ARM.count(old) >= 1
    with pytest.raises(ConfigError, match=reason):
        find_embodiment(write("broken.xml", ARM.replace(old, new, 1)))


def test_a_urdf_without_a_link_tcp_and_missing_files_are_refused(write, tmp_path):
    with pytest.raises(ConfigError, match=r"no link 'tcp' \(it has: .*lower"):
        find_embodiment(write("no.urdf", URDF.replace('"tcp"', '"tip"')))
    with pytest.raises(ConfigError, match="There is no robot file"):
        find_embodiment(str(tmp_path / "missing.xml"))
    with pytest.raises(UnknownNameError, match="ur5e"):
        find_embodiment("ur5f")


def test_a_task_that_needs_a_gripper_refuses_a_file_without(write):
    with pytest.raises(ConfigError, match="'arm' has no gripper, and pick_place needs one"):
        World(PickPlaceScene(), [write("arm.xml", ARM)])
