"""The authors' checkpoint (`float.pth`): its names and ours in one explicit map.

Users provide their own copy. The released weights have a non-commercial licence; this project contains none of them,
and none of the released code.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from models.config import FloatConfig


def released_names(config: FloatConfig) -> dict[str, str]:
    """Our parameter name -> released name, for every parameter of the model."""
    names: dict[str, str] = {}

    def linear(ours: str, theirs: str) -> None:
        names[f"{ours}.weight"], names[f"{ours}.bias"] = f"{theirs}.weight", f"{theirs}.bias"

    def modulated(ours: str, theirs: str) -> None:
        names[f"{ours}.weight"] = f"{theirs}.weight"
        linear(f"{ours}.modulation", f"{theirs}.modulation")

    def styled(ours: str, theirs: str) -> None:
        modulated(f"{ours}.conv", f"{theirs}.conv")
        names[f"{ours}.bias"] = f"{theirs}.activate.bias"

    def convolution(ours: str, weight: str, bias: str) -> None:
        names[f"{ours}.weight"], names[f"{ours}.bias"] = f"{weight}.weight", f"{bias}.bias"

    stages = len(config.channels) - 1

    ours, theirs = "autoencoder.encoder", "motion_autoencoder.enc"
    convolution(f"{ours}.stem", f"{theirs}.net_app.convs.0.0", f"{theirs}.net_app.convs.0.1")
    for i in range(stages):
        block, conv = f"{ours}.blocks.{i}", f"{theirs}.net_app.convs.{i + 1}"
        convolution(f"{block}.conv1", f"{conv}.conv1.0", f"{conv}.conv1.1")
        convolution(f"{block}.conv2", f"{conv}.conv2.1", f"{conv}.conv2.2")
        names[f"{block}.skip.weight"] = f"{conv}.skip.1.weight"
    names[f"{ours}.to_identity.weight"] = f"{theirs}.net_app.convs.{stages + 1}.weight"
    for i in range(5):
        linear(f"{ours}.to_coefficients.{i}", f"{theirs}.fc.{i}")

    ours, theirs = "autoencoder.decoder", "motion_autoencoder.dec"
    names["autoencoder.directions.weight"] = f"{theirs}.direction.weight"
    names[f"{ours}.constant"] = f"{theirs}.input.input"
    styled(f"{ours}.first", f"{theirs}.conv1")
    for i in range(stages):
        stage = f"{ours}.stages.{i}"
        styled(f"{stage}.up", f"{theirs}.convs.{2 * i}")
        styled(f"{stage}.refine", f"{theirs}.convs.{2 * i + 1}")
        modulated(f"{stage}.warp.conv", f"{theirs}.to_flows.{i}.conv")
        names[f"{stage}.warp.bias"] = f"{theirs}.to_flows.{i}.bias"
        convolution(f"{stage}.rgb.conv", f"{theirs}.to_rgbs.{i}.conv.0", f"{theirs}.to_rgbs.{i}.conv.1")
        names[f"{stage}.rgb.bias"] = f"{theirs}.to_rgbs.{i}.bias"

    linear("speech_projection.linear", "audio_encoder.audio_projection.0")
    linear("speech_projection.norm", "audio_encoder.audio_projection.1")

    linear("transformer.embed_motion", "fmt.x_embedder.proj")
    linear("transformer.embed_condition", "fmt.c_embedder")
    linear("transformer.embed_time.mlp.0", "fmt.t_embedder.mlp.0")
    linear("transformer.embed_time.mlp.2", "fmt.t_embedder.mlp.2")
    for i in range(config.blocks):
        ours, theirs = f"transformer.blocks.{i}", f"fmt.blocks.{i}"
        linear(f"{ours}.attention.qkv", f"{theirs}.attn.qkv")
        linear(f"{ours}.attention.out", f"{theirs}.attn.proj")
        linear(f"{ours}.mlp.0", f"{theirs}.mlp.fc1")
        linear(f"{ours}.mlp.2", f"{theirs}.mlp.fc2")
        linear(f"{ours}.modulation", f"{theirs}.adaLN_modulation.1")
    linear("transformer.final_modulation", "fmt.decoder.adaLN_modulation.1")
    linear("transformer.to_velocity", "fmt.decoder.linear")
    return names


def is_unused(name: str) -> bool:
    """Whether inference never reads this tensor of a released checkpoint.

    This holds for constants that we compute ourselves, noise strengths (no noise is used), the 4 px colour head
    (nothing is warped at 4 px), and wav2vec2 weights, which come from their own folders.
    """
    constant = name.endswith((".kernel", ".alignment_mask", ".pos_embed"))
    return constant or name.endswith(".noise.weight") or ".to_rgb1." in name or "wav2vec2" in name


def translate(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], config: FloatConfig) -> dict[str, Tensor]:
    """Released state -> ours, in float32 and in our shapes; `expected` is the model's own `state_dict()`.

    Raises ValueError listing every name that is missing, unknown, or has a tensor of another shape.
    """
    names = released_names(config)
    unknown = {name for name in state if not is_unused(name)} - set(names.values())
    faults = [f"unknown: {name}" for name in sorted(unknown)]
    result: dict[str, Tensor] = {}
    for ours, theirs in names.items():
        want = tuple(expected[ours].shape)
        if theirs not in state:
            faults.append(f"missing: {theirs} {want}")
            continue
        tensor = torch.as_tensor(state[theirs])
        # Their (1,C,1,1) biases and (1,O,I,k,k) weights lose axes of length one.
        if [n for n in tensor.shape if n != 1] != [n for n in want if n != 1]:
            faults.append(f"shape: {theirs} is {tuple(tensor.shape)}, expected {want}")
            continue
        result[ours] = tensor.detach().float().reshape(want)
    if faults:
        listing = "\n  ".join(faults)
        raise ValueError(f"this is not a released FLOAT checkpoint; {len(faults)} names do not match:\n  {listing}")
    return result
