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
