"""ArcFace's residual network for faces (Deng 2019: 3x3 stem, pre-normalised blocks, BN-FC-BN head), so that its weights
can be given as safetensors, which cannot contain code.

Names and shapes are those of insightface's PyTorch files (`arcface_torch`, iresnet18 to iresnet200); a file is
converted with `safetensors.torch.save_file(torch.load("backbone.pth", weights_only=True), "backbone.safetensors")`. The
project has had none of these weights: the tests cover names, shapes and the arithmetic of a block.
"""

import re
from typing import cast

from safetensors.torch import load
from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512)
MAX_BLOCKS = 100
"""Blocks of a stage; the largest known network has 60."""


def is_safetensors(file: bytes) -> bool:
    """Whether the contents of a file begin like safetensors: the length of a JSON object, and the object."""
    return len(file) > 9 and file[8:9] == b"{" and int.from_bytes(file[:8], "little") <= len(file) - 8


class _Block(nn.Module):
    """(B,C,n,n) -> (B,O,n/stride,n/stride)."""

    def __init__(self, given: int, made: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(given)
        self.conv1 = nn.Conv2d(given, made, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(made)
        self.prelu = nn.PReLU(made)
        self.conv2 = nn.Conv2d(made, made, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(made)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1:
            self.downsample = nn.Sequential(nn.Conv2d(given, made, 1, stride, bias=False), nn.BatchNorm2d(made))

    def forward(self, x: Tensor) -> Tensor:
        y = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return cast("Tensor", self.bn3(self.conv2(y)) + self.downsample(x))


class IResNet(nn.Module):
    """(B,3,112,112) RGB in [-1,1] -> (B,512)."""

    def __init__(self, blocks: tuple[int, ...]) -> None:
        """`blocks`: their number in each of the four stages."""
        super().__init__()
        self.conv1 = nn.Conv2d(3, WIDTHS[0], 3, 1, 1, bias=False)
        self.bn1, self.prelu = nn.BatchNorm2d(WIDTHS[0]), nn.PReLU(WIDTHS[0])
        given = WIDTHS[0]
        for number, (made, count) in enumerate(zip(WIDTHS, blocks, strict=True), 1):
            stage = [_Block(given if i == 0 else made, made, 2 if i == 0 else 1) for i in range(count)]
            self.add_module(f"layer{number}", nn.Sequential(*stage))
            given = made
        self.bn2 = nn.BatchNorm2d(WIDTHS[-1])
        self.fc = nn.Linear(WIDTHS[-1] * 7 * 7, 512)
        self.features = nn.BatchNorm1d(512)

    def forward(self, images: Tensor) -> Tensor:
        """The embeddings, not normalised."""
        x = self.prelu(self.bn1(self.conv1(images)))
        for number in range(1, len(WIDTHS) + 1):
            x = self.get_submodule(f"layer{number}")(x)
        return cast("Tensor", self.features(self.fc(self.bn2(x).flatten(1))))


def load_iresnet(file: bytes) -> IResNet:
    """The network of a safetensors file, whose depth is read from the names. Raises ValueError if they do not fit."""
    try:
        state = load(file)
    except Exception as error:  # errors of safetensors, which is written in Rust
        raise ValueError("the safetensors file is damaged: copy it again") from error
    blocks = [0] * len(WIDTHS)
    for name in state:
        if found := re.match(r"layer([1-4])\.(\d{1,3})\.", name):
            stage = int(found[1]) - 1
            blocks[stage] = max(blocks[stage], int(found[2]) + 1)
    if min(blocks) < 1 or max(blocks) > MAX_BLOCKS:
        raise ValueError("the safetensors file has not the names of ArcFace's iresnet (layer1.0.conv1.weight, ...)")
    network = IResNet(tuple(blocks))
    wanted = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    state = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    other = [name for name in {**wanted, **state} if name not in state or name not in wanted]
    other += [name for name in wanted if name in state and state[name].shape != wanted[name].shape]
    if other:
        raise ValueError(
            f"the safetensors file is not an iresnet: {len(other)} tensors are missing, unknown or of another shape, "
            f"such as {other[0][:80]!r}"
        )
    network.load_state_dict({name: tensor.float() for name, tensor in state.items()}, strict=False)
    return network.eval()
