"""Policies on another machine. Needs numpy, msgpack, websockets; simplejpeg only to send images as JPEG."""

from robopolicy_drivers.client.openpi import OpenpiPolicy
from robopolicy_drivers.client.remote_policy import RemotePolicy

__all__ = ["OpenpiPolicy", "RemotePolicy"]
