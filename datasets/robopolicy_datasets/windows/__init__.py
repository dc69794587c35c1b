"""Windows of consecutive steps, the samples of imitation learning."""

from robopolicy_datasets.windows.sampler import WindowSampler, split_episodes

__all__ = ["WindowSampler", "split_episodes"]
