"""The robot's computer needs neither torch nor mujoco."""

import subprocess
import sys

CODE = """
import importlib, pkgutil, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "mujoco"):
            raise ModuleNotFoundError(f"{name} is blocked", name=name)

sys.meta_path.insert(0, Blocked())
import robopolicy_drivers
names = [module.name for module in pkgutil.walk_packages(robopolicy_drivers.__path__, "robopolicy_drivers.")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def test_every_module_of_drivers_imports_without_torch_and_mujoco():
    result = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) > 10


CLIENT = """
import sys
allowed = {"numpy", "cython_runtime", "msgpack", "websockets", "robopolicy_datasets", "robopolicy_drivers"}
before = set(sys.modules)
import robopolicy_drivers.client
names = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(names - allowed - set(sys.stdlib_module_names)))
"""


def test_the_client_of_a_policy_server_needs_numpy_msgpack_and_websockets_only():
    result = subprocess.run([sys.executable, "-c", CLIENT], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert not [name for name in result.stdout.split() if not name.startswith("_")]
