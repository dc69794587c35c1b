"""All that runs on the robot's computer. Needs neither torch nor mujoco."""
