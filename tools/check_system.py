"""Says which Debian packages are missing, as one apt line. Uses the standard library only.

``check_system.py`` looks for what the set-up needs before anything is downloaded: the ``venv`` module
and the system libraries that OpenCV and headless rendering load. ``check_system.py --render`` runs after
the set-up, in the environment, and draws one real frame with each OpenGL backend of MuJoCo until one works.
``check_system.py --packages`` prints the package names alone. Exit status 1 means that something is missing.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import subprocess
import sys

HAS_VENV = importlib.util.find_spec("ensurepip") is not None
PACKAGES = [
    *([] if HAS_VENV else [f"python{sys.version_info.major}.{sys.version_info.minor}-venv"]),
    "libegl1",
    "libgl1",
    "libgl1-mesa-dri",
    "libglib2.0-0",
]
LIBRARIES = [("libGL.so.1",), ("libglib-2.0.so.0",), ("libEGL.so.1", "libOSMesa.so.8")]
DRAW_ONE_FRAME = """
import cv2, mujoco
model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><light/><geom size="1"/></worldbody></mujoco>')
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 16, 16) as renderer:
    renderer.update_scene(data)
    raise SystemExit(0 if renderer.render().any() else "the frame is black")
"""


def apt_line() -> str:
    """Returns the one command that installs everything that can be missing."""
    sudo = "" if os.geteuid() == 0 else "sudo "
    return f"{sudo}apt-get update && {sudo}apt-get install -y --no-install-recommends {' '.join(PACKAGES)}"


def loads(library: str) -> bool:
    """Tells whether the dynamic linker finds the library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def missing_parts() -> list[str]:
    """Returns what the set-up needs and this machine lacks, in words."""
    missing = [
        " or ".join(choices) for choices in LIBRARIES if not any(loads(library) for library in choices)
    ]
    if not HAS_VENV:
        missing.insert(0, "the Python module ensurepip")
    return missing


def rendering_failures() -> list[str]:
    """Draws a frame with each backend until one works.

    Returns:
        One line for each backend that failed; empty as soon as one works.
    """
    failures = []
    chosen = os.environ.get("MUJOCO_GL")
    for backend in [chosen] if chosen else ["egl", "osmesa"]:
        result = subprocess.run(
            [sys.executable, "-c", DRAW_ONE_FRAME],
            env={**os.environ, "MUJOCO_GL": backend},
            capture_output=True,
            text=True,
        )
        if result.returncode == 0:
            return []
        lines = result.stderr.strip().splitlines() or [f"exit status {result.returncode}"]
        failures.append(f"MUJOCO_GL={backend}: {lines[-1]}")
    return failures


def main(arguments: list[str]) -> int:
    """Runs the check that the arguments name."""
    if arguments == ["--packages"]:
        sys.stdout.write(" ".join(PACKAGES) + "\n")
        return 0
    problems = rendering_failures() if arguments == ["--render"] else missing_parts()
    if not problems:
        return 0
    sys.stderr.write("Missing: " + "; ".join(problems) + "\n")
    sys.stderr.write(
        "On Debian or Ubuntu, run this line, then the same command again:\n  " + apt_line() + "\n"
    )
    return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
