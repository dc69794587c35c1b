"""Typed settings of the policies. Imports no torch, so that the command can show and check them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar


@dataclass
class ImageEncoderConfig:
    """A residual convolution net over each camera image, one per camera.

    Attributes:
        backbone: ``residual``, of the sizes below; ``resnet18``, for the weights published for it; or
            ``aol``, of the channels below, whose features have a proven Lipschitz bound.
        channels: of the stages; each halves the resolution, which the stem before them quarters.
        blocks: residual blocks in a stage.
        features: numbers that describe one image.
        groups: of the group normalizations.
        pretrained: safetensors file with weights of such a backbone: of a checkpoint of ours, of one encoder,
            or torchvision's of ResNet-18; empty: train from scratch.
        frozen: leave the backbone as it is loaded and train the rest.
    """

    backbone: str = "residual"
    channels: list[int] = field(default_factory=lambda: [32, 64])
    blocks: int = 1
    features: int = 128
    groups: int = 8
    pretrained: str = ""
    frozen: bool = False


@dataclass
class UnetConfig:
    """The conditional 1-D U-Net. The horizon must be divisible by ``2 ** (len(channels) - 1)``.

    Attributes:
        channels: per level, coarse last. Diffusion Policy's own size is [256, 512, 1024].
        kernel_size: of the convolutions.
        groups: of the group normalizations.
        embedding: size of the noise-level embedding.
    """

    channels: list[int] = field(default_factory=lambda: [32, 64, 128])
    kernel_size: int = 5
    groups: int = 8
    embedding: int = 256


@dataclass
class MlpConfig:
    """The residual perceptron over the whole chunk.

    Attributes:
        width: of the residual stream.
        blocks: residual blocks.
        expansion: hidden width of a block in units of ``width``.
        embedding: size of the noise-level embedding.
    """

    width: int = 384
    blocks: int = 3
    expansion: int = 2
    embedding: int = 128


@dataclass
class TransformerConfig:
    """The transformer with a token for each action.

    Attributes:
        width: of a token. Diffusion Policy's own size is 256.
        layers: each of attention to the actions, attention to the condition, feed-forward. DP's: 8.
        heads: of the attention.
        causal: actions look at earlier ones only, as in Diffusion Policy.
        embedding: size of the noise-level embedding.
    """

    width: int = 128
    layers: int = 3
    heads: int = 4
    causal: bool = False
    embedding: int = 128


@dataclass
class StreamConfig:
    """How much of a stream's past a policy sees at each of its observations.

    Attributes:
        samples: points in time, evenly from ``seconds`` ago to the present.
        seconds: from the first point to the present [s].
    """

    samples: int = 32
    seconds: float = 0.1


@dataclass
class ChunkPolicyConfig:
    """What all chunk policies share.

    Attributes:
        observation_keys: features that the policy sees; empty: all that the steps of the data have.
        streams: by key, what the policy sees of sensors with a rate of their own; in the place of what the
            steps show under the same key.
        observation_steps: observations in the input (To).
        action_steps: actions executed before the next inference (Ta).
        horizon: actions predicted (Tp), counted from the oldest observation.
        pose_representation: poses in actions ``relative`` to the newest observed pose, or ``absolute``.
        normalization: ``limits`` scales each number to [-1, 1], ``standard`` to zero mean, unit variance.
        learn_ending: train on every observation of an episode, the last action being held past its end. If
            false, an episode's last ``horizon - action_steps`` observations are left out, as in Diffusion
            Policy: right where people stop before the task is quite done.
        observation_noise: standard deviation of the noise added in training to normalized low-dimensional
            observations, so that the policy does not learn the recorded states by heart.
        encoder: for camera images.
        history_features: numbers that describe the history of a stream, or another feature which holds the
            newest samples of a faster sensor.
    """

    observation_keys: list[str] = field(default_factory=list)
    streams: dict[str, StreamConfig] = field(default_factory=dict)
    observation_steps: int = 2
    action_steps: int = 8
    horizon: int = 16
    pose_representation: str = "relative"
    normalization: str = "limits"
    learn_ending: bool = True
    observation_noise: float = 0.0
    encoder: ImageEncoderConfig = field(default_factory=ImageEncoderConfig)
    history_features: int = 32


@dataclass
class ChunkNetConfig(ChunkPolicyConfig):
    """The choice of a net over action chunks.

    Attributes:
        net: ``unet``, ``mlp`` or ``transformer``; the second trains several times faster on a CPU.
        unet: the U-Net's sizes.
        mlp: the perceptron's sizes.
        transformer: the transformer's sizes.
    """

    net: str = "unet"
    unet: UnetConfig = field(default_factory=UnetConfig)
    mlp: MlpConfig = field(default_factory=MlpConfig)
    transformer: TransformerConfig = field(default_factory=TransformerConfig)


@dataclass
class FeedbackConfig:
    """Training with feedback on the net's own estimates; see docs/sampling.md.

    Attributes:
        order: ``none``, ``zero`` (the residual is fed back) or ``first`` (the gradient of its square).
        unguided: share of training samples that see no feedback, as each look-ahead does.
        cached: share of training samples that see feedback on the estimate of the sampling step before, as
            the shortcut does.
    """

    order: str = "none"
    unguided: float = 0.1
    cached: float = 0.4


@dataclass
class GenerativeConfig(ChunkNetConfig):
    """What the policies that sample share.

    Attributes:
        prediction: of the net: ``noise``, ``clean`` (the chunk itself) or ``velocity``.
        longest_prefix: in training up to so many actions from the newest observation's on are given as known,
            so that a chunk can continue the one before it at no cost; 0: none, it is pulled toward it.
        feedback: on the net's own estimates.
        noise_samples: noisy copies of each action chunk in one training step; the encoder runs once.
    """

    prediction: str = "clean"
    longest_prefix: int = 0
    feedback: FeedbackConfig = field(default_factory=FeedbackConfig)
    noise_samples: int = 1


@dataclass
class DiffusionConfig(GenerativeConfig):
    """Denoising diffusion (Chi et al. 2023; Ho et al. 2020; Song et al. 2021).

    Attributes:
        sampler: ``ddpm`` or ``ddim``.
        sampling_steps: denoising steps at inference; DDPM takes them all (``noise_levels``).
        noise_levels: of the training schedule (squared cosine, Nichol and Dhariwal 2021).
        eta: how much of DDPM's noise DDIM adds on the way, from 0 to 1.
        normalization: ``standard`` by default. Estimates are clipped to six standard deviations with it, to
            [-1, 1] with ``limits``, which Diffusion Policy uses.
    """

    target: ClassVar[str] = "robopolicy.policies.generative:DiffusionPolicy"
    sampler: str = "ddim"
    sampling_steps: int = 10
    noise_levels: int = 100
    eta: float = 0.0
    normalization: str = "standard"


@dataclass
class FlowConfig(GenerativeConfig):
    """Flow matching along straight paths (Lipman et al. 2023).

    Attributes:
        normalization: ``standard`` by default: there is no clipping that needs limits.
        sampler: ``euler`` or ``heun`` (two net evaluations a step).
        sampling_steps: integration steps at inference.
    """

    target: ClassVar[str] = "robopolicy.policies.generative:FlowPolicy"
    normalization: str = "standard"
    sampler: str = "euler"
    sampling_steps: int = 5


@dataclass
class BehaviorCloningConfig(ChunkNetConfig):
    """Plain regression: one chunk for an observation, the mean or the median of the demonstrated ones.

    Attributes:
        normalization: ``standard`` by default.
        net: ``mlp`` by default.
        loss: ``mse`` (mean) or ``l1`` (median, which forgives outliers).
    """

    target: ClassVar[str] = "robopolicy.policies.regression:BehaviorCloningPolicy"
    normalization: str = "standard"
    net: str = "mlp"
    loss: str = "mse"


@dataclass
class ActConfig(ChunkNetConfig):
    """Action chunking with a transformer (Zhao et al. 2023): L1 regression as a variational autoencoder.

    Attributes:
        normalization: ``standard`` by default.
        net: ``transformer`` by default.
        latent: numbers that describe how a chunk was done; zero at inference.
        posterior_layers: of the transformer that finds them in training, of the size of ``transformer``.
        divergence_weight: of the Kullback-Leibler divergence in the loss.
    """

    target: ClassVar[str] = "robopolicy.policies.act:ActPolicy"
    normalization: str = "standard"
    net: str = "transformer"
    latent: int = 32
    posterior_layers: int = 2
    divergence_weight: float = 10.0


@dataclass
class MixtureConfig(ChunkPolicyConfig):
    """One step for a sample: a regression for each of a few codes, one of which is drawn.

    Attributes:
        normalization: ``standard`` by default.
        codes: chunks that can be sampled for one observation; each can hold one way of doing the task.
        channels: of each step of the chunk in the net, divisible by 8.
        blocks: residual blocks of the net.
    """

    target: ClassVar[str] = "robopolicy.policies.mixture:MixturePolicy"
    normalization: str = "standard"
    codes: int = 4
    channels: int = 64
    blocks: int = 4


@dataclass
class LipschitzFlowConfig(ChunkPolicyConfig):
    """A flow whose sampled chunk follows the observation no further than a certified bound.

    Attributes:
        normalization: ``standard`` by default.
        bound: on what a sampled chunk moves per unit of the observation window, the noise being the same;
            l2 of the normalized numbers of both.
        codes: noises that chunks are sampled from; each can hold one way of doing the task.
        teacher: run or checkpoint of a ``mixture`` whose chunks are learnt; empty: the demonstrated ones.
        teacher_noise: largest standard deviation by which observations are moved for the teacher, alike at
            all steps of a window, in normalized numbers.
        sampling_steps: Euler steps at inference. Under the same bound each further one leaves less of it to
            the observation.
        point_gain: on what an estimate moves per unit of the noisy chunk, where there are several steps.
        width: of the net's hidden layers.
        depth: how many there are.
        layer: of the net: ``sandwich``, ``sll``, ``sll_tanh``, ``aol`` or ``spectral``. The first
            bends most.
    """

    target: ClassVar[str] = "robopolicy.policies.lipschitz_flow:LipschitzFlowPolicy"
    normalization: str = "standard"
    bound: float = 50.0
    codes: int = 4
    teacher: str = ""
    teacher_noise: float = 0.1
    sampling_steps: int = 1
    point_gain: float = 1.0
    width: int = 128
    depth: int = 5
    layer: str = "sandwich"


@dataclass
class LipschitzConfig(ChunkPolicyConfig):
    """Regression with a proven bound of how far the chunk moves when the observation does.

    Attributes:
        normalization: ``standard`` by default: bounds are then in units of the data's spread.
        bound: largest l2 change of the normalized chunk for a unit change of the normalized observation
            window, l2 as well; with ``margin``, what the search for the smallest bound starts from.
        action_bounds: likewise of each represented action number, over the rows of the chunk; [] for
            ``bound`` in all. One budget each is far less coarse than one for all.
        margin: 0 keeps the bound. A number above: the loss to allow; the smallest bound that reaches it is
            learned.
        layer: of the net: ``sandwich``, ``sll``, ``sll_tanh``, ``aol`` or ``spectral``. The first bends most;
            with few and noisy demonstrations take the third.
        width: of the hidden layers.
        depth: hidden layers.
    """

    target: ClassVar[str] = "robopolicy.policies.lipschitz:LipschitzPolicy"
    normalization: str = "standard"
    bound: float = 50.0
    action_bounds: list[float] = field(default_factory=list)
    margin: float = 0.0
    layer: str = "sandwich"
    width: int = 128
    depth: int = 4
