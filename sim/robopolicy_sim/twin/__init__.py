"""The PyBullet twin: our worlds under another physics engine, drawn by MuJoCo."""
