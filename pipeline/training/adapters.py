"""Low-rank adapters (LoRA: Hu et al., arXiv 2106.09685): fine-tune a transformer by a few numbers for each layer.

A linear layer W x becomes W x + (alpha / rank) B A x, with A (rank,I) and B (O,rank), B zero at first, and only A and B
are trained. Merged, it is one matrix again: what is rendered with has no adapters, and costs nothing more. The package
peft does the work; it is installed by the extra `finetune`.
"""

from collections.abc import Sequence
from types import ModuleType

from torch import Tensor, nn

from pipeline.common.errors import RefusedError


class AdapterError(RefusedError):
    """Adapters that cannot be created, loaded or merged; the message says what to change."""


def add_adapters(module: nn.Module, rank: int, alpha: float, targets: Sequence[str] = ()) -> nn.Module:
    """Give linear layers of `module` adapters, in place, and freeze everything else; the output stays the same.

    Args:
        module: such as `FLOAT.transformer`.
        rank: numbers that an adapter may depend on, 1 or more.
        alpha: strength; the adapter's part is scaled by alpha / rank.
        targets: names of the layers, whole or their ends behind a dot (`attention.qkv`); none means every nn.Linear.

    Returns `module`. Raises AdapterError where a value is wrong, a target names no linear layer, the module has
    adapters, or peft is not installed.
    """
    peft = _package()
    if rank < 1:
        raise AdapterError(f"rank must be 1 or more, got {rank}")
    if alpha <= 0:
        raise AdapterError(f"alpha must be above 0, got {alpha}: adapters that are scaled by 0 learn nothing")
    if has_adapters(module):
        raise AdapterError("the module already has adapters: merge them first")
    linear = [name for name, part in module.named_modules() if isinstance(part, nn.Linear)]
    unknown = [t for t in targets if not any(_is_named(name, t) for name in linear)]
    if unknown or not linear:
        raise AdapterError(
            f"there is no linear layer called {', '.join(unknown) or 'anything'}; the linear layers are "
            f"{', '.join(linear) or 'none'}"
        )
    chosen = [name for name in linear if not targets or any(_is_named(name, t) for t in targets)]
    config = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=chosen, lora_dropout=0.0, bias="none")
    # After injection the module keeps its own forward and its type.
    peft.inject_adapter_in_model(config, module)
    return module


def has_adapters(module: nn.Module) -> bool:
    """Whether the module has adapters that are not merged yet."""
    return any(_is_adapter(name) for name, _ in module.named_parameters())


def trainable_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Name -> parameter of what is trained, for an optimiser or for counting."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def adapter_state(module: nn.Module) -> dict[str, Tensor]:
    """State dict of the adapters alone: rank (I + O) numbers per layer. Empty if there are none."""
    return {name: tensor for name, tensor in module.state_dict().items() if _is_adapter(name)}


def load_adapter_state(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Load `adapter_state` into a module with the same adapters. Raises AdapterError if they differ."""
    wanted = adapter_state(module)
    wrong = sorted(set(wanted) ^ set(state))
    wrong += [name for name in wanted.keys() & state.keys() if wanted[name].shape != state[name].shape]
    if wrong:
        raise AdapterError(
            f"these adapters belong to other layers or have another rank: {len(wrong)} differ, such as {wrong[0]}"
        )
    module.load_state_dict(state, strict=False)


def merge_adapters(module: nn.Module) -> nn.Module:
    """Add the adapters to the weights and remove them, in place: layers and state dict are plain again.

    Everything is trainable again. Returns `module`. Raises AdapterError if it has no adapters.
    """
    if not has_adapters(module):
        raise AdapterError("the module has no adapters to merge")
    layer = _package().tuners.lora.Linear
    for name, part in list(module.named_modules()):
        if isinstance(part, layer):
            try:
                part.merge(safe_merge=True)
            except ValueError:
                raise AdapterError(
                    f"the adapter of {name} has values that are not finite: train it again with a lower "
                    "optimiser.learning_rate"
                ) from None
            module.set_submodule(name, part.get_base_layer())
    del module.peft_config
    return module.requires_grad_(True)


def _is_named(name: str, target: str) -> bool:
    return name == target or name.endswith("." + target)


def _is_adapter(name: str) -> bool:
    return ".lora_A." in name or ".lora_B." in name


def _package() -> ModuleType:
    try:
        import peft
    except ImportError:
        raise AdapterError(
            "low-rank adapters need the package peft, which is not installed here: run python -m pip install "
            "'floatcast[finetune]' on every node"
        ) from None
    return peft
