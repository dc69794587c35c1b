"""LeRobot data sets (v2.1 and v3.0), read and written with pyarrow and PyAV alone."""
