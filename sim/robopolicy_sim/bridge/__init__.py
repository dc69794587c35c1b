"""Foreign Gymnasium environments, each a process with an interpreter of its own, as tasks of ours."""
