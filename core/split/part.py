"""The blocks that one side holds, each with an optimiser of its own, so that a block can move to
the other side with all that belongs to it."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

State = dict[str, NDArray[Any]]

_WEIGHTS, _OPTIMISER = "weights", "optimiser"
_NAME = re.compile(rf"(\d{{1,4}})/(?:{_WEIGHTS}|{_OPTIMISER})/.+")

# What each optimiser keeps of a parameter once it has made a step.
SLOTS = {
    "sgd": {"momentum_buffer"},
    "rmsprop": {"step", "square_avg"},
    "adam": {"step", "exp_avg", "exp_avg_sq"},
}


def make_optimiser(settings: Mapping[str, Any], parameters: Sequence[nn.Parameter]) -> Any:
    """The optimiser of a spec. settings: section training.optimiser."""
    rate, decay = settings["learning_rate"], settings["weight_decay"]
    match settings["name"]:
        case "sgd":
            momentum, nesterov = settings["momentum"], settings["nesterov"]
            return torch.optim.SGD(
                parameters, rate, momentum, weight_decay=decay, nesterov=nesterov
            )
        case "rmsprop":
            return torch.optim.RMSprop(parameters, rate, weight_decay=decay)
        case _:
            epsilon = settings.get("epsilon", 1e-8)
            return torch.optim.Adam(parameters, rate, eps=epsilon, weight_decay=decay)


def learning_rate(settings: Mapping[str, Any], epoch: int, losses: Sequence[float] = ()) -> float:
    """In this epoch (from 1): the first one times `factor` for each milestone that has begun, and
    for each plateau. losses: mean training loss of the epochs before, which alone decides, so that
    whoever goes on from a snapshot finds the same."""
    begun = sum(1 for milestone in settings["milestones"] if milestone <= epoch)
    begun += _plateaus(losses, settings["patience"]) if "patience" in settings else 0
    return float(settings["learning_rate"] * settings["factor"] ** begun)


def _plateaus(losses: Sequence[float], patience: int) -> int:
    """How often the loss failed to fall, by a ten-thousandth, for more than so many epochs."""
    least, waited, found = float("inf"), 0, 0
    for loss in losses:
        waited += 1
        if loss < least * (1 - 1e-4):
            least, waited = loss, 0
        elif waited > patience:
            waited, found = 0, found + 1
    return found


@dataclass
class Held:
    """A block that this side holds."""

    module: nn.Module
    optimiser: Any  # None where nothing is trained
    random: bool  # it draws random numbers


class Part:
    """Blocks first to last of a network, those in between included."""

    def __init__(
        self,
        build: Callable[[int], nn.Module],
        prepare: Callable[[Tensor], Tensor],
        blocks: range,
        optimiser: Mapping[str, Any],
        seed: int,
    ) -> None:
        """build: a block by its number, with the weights that it starts from. prepare: a raw batch
        to what block 0 takes. optimiser: section of the spec."""
        self._build, self._prepare = build, prepare
        self._settings, self._seed = optimiser, seed
        self._held: dict[int, Held] = {}
        self._rate: float = optimiser["learning_rate"]
        for index in blocks:
            self._take(index)

    @property
    def blocks(self) -> list[int]:
        """Numbers of the blocks held here, in order."""
        return sorted(self._held)

    def prepared(self, inputs: NDArray[Any]) -> Tensor:
        """What block 0 takes, of a raw batch."""
        return self._prepare(torch.from_numpy(inputs))

    def forward(self, features: Tensor, step: int, again: bool = False) -> Tensor:
        """The output of these blocks in training mode, with its graph unless autograd is off.

        Random numbers depend on seed, step and block alone. again: the batch was seen before;
        BatchNorm's running statistics stay as they are, so that each batch counts once.
        """
        for index in self.blocks:
            features = self.forward_block(index, features, step, again)
        return features

    def forward_block(self, index: int, features: Tensor, step: int, again: bool = False) -> Tensor:
        """The same of one block."""
        held = self._held[index]
        _set_mode(held.module, train=True, again=again)
        if held.random:
            torch.manual_seed(_seed(self._seed, step, index))
        output: Tensor = held.module(features)
        return output.contiguous()  # as after the way over the wire: the same bits on either side

    @torch.no_grad()
    def evaluate(self, features: Tensor) -> Tensor:
        """The output in evaluation mode."""
        for index in self.blocks:
            module = self._held[index].module
            _set_mode(module, train=False, again=False)
            features = module(features).contiguous()
        return features

    def update(self, rate: float) -> None:
        """One step of every optimiser at this learning rate; the gradients are then forgotten."""
        for index in self.blocks:
            self.update_block(index, rate)

    def update_block(self, index: int, rate: float) -> None:
        """The same of one block."""
        optimiser = self._held[index].optimiser
        if optimiser is not None:
            for group in optimiser.param_groups:
                group["lr"] = rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def state(self, blocks: Sequence[int] | None = None) -> State:
        """Weights, statistics and optimiser of some blocks, or of all, as arrays by name."""
        found: State = {}
        for index in self.blocks if blocks is None else blocks:
            held = self._held[index]
            for name, value in held.module.state_dict().items():
                found[f"{index}/{_WEIGHTS}/{name}"] = _array(value)
            if held.optimiser is not None:
                for number, slots in held.optimiser.state_dict()["state"].items():
                    for name, value in slots.items():
                        if value is not None:
                            found[f"{index}/{_OPTIMISER}/{number}/{name}"] = _array(value)
        return found

    def give(self, blocks: Sequence[int]) -> State:
        """The state of blocks that leave this side."""
        state = self.state(blocks)
        for index in blocks:
            del self._held[index]
        return state

    def take(self, state: Mapping[str, NDArray[Any]], blocks: range) -> None:
        """Hold these blocks too, as they were where they come from. A block without weights has
        no arrays in `state`, and is held all the same.

        Raises ValueError that names what does not fit; what this side held before stays then.
        """
        for name in state:
            match = _NAME.fullmatch(name)
            if match is None or int(match[1]) not in blocks:
                raise ValueError(f"{name[:80]!r} is no array of the blocks {list(blocks)}")
        self._held |= {index: self._loaded(index, state) for index in blocks}

    def keep(self, blocks: range) -> None:
        """Hold these blocks and no others: those that come are as freshly built."""
        for index in set(self._held) - set(blocks):
            del self._held[index]
        for index in set(blocks) - set(self._held):
            self._take(index)

    def _take(self, index: int) -> None:
        self._held[index] = self._built(index)

    def _built(self, index: int) -> Held:
        module = self._build(index)
        trained = [p for p in module.parameters() if p.requires_grad]
        random = any(isinstance(m, nn.modules.dropout._DropoutNd) for m in module.modules())
        return Held(module, make_optimiser(self._settings, trained) if trained else None, random)

    def _loaded(self, index: int, state: Mapping[str, NDArray[Any]]) -> Held:
        held = self._built(index)
        prefix = f"{index}/"
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        weights = {k.split("/", 1)[1]: v for k, v in own.items() if k.startswith(_WEIGHTS)}
        _load_weights(held.module, weights, index)
        slots = {k: v for k, v in own.items() if k.startswith(_OPTIMISER)}
        if held.optimiser is not None:
            _load_slots(held.optimiser, slots, SLOTS[self._settings["name"]], index)
        elif slots:
            raise ValueError(f"block {index} is not trained and has no optimiser")
        return held


def under(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> State:
    """The arrays with a prefix before their names."""
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def below(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> State:
    """The arrays whose names begin with a prefix, without it."""
    start = f"{prefix}/"
    return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}


def _load_weights(module: nn.Module, arrays: Mapping[str, NDArray[Any]], index: int) -> None:
    own = module.state_dict()
    if own.keys() != arrays.keys():
        raise ValueError(f"block {index}: its arrays are not {sorted(own)}")
    for name, value in own.items():
        _check(f"block {index}, {name}", value, arrays[name])
    module.load_state_dict({name: _tensor(arrays[name]) for name in own})


def _load_slots(
    optimiser: Any, arrays: Mapping[str, NDArray[Any]], names: set[str], index: int
) -> None:
    """Slots of an optimiser by `optimiser/parameter/name`; nothing before the first step."""
    parameters = optimiser.param_groups[0]["params"]
    slots: dict[int, dict[str, Tensor]] = {}
    for key, array in arrays.items():
        _, number, name = (*key.split("/"), "", "")[:3]
        if not number.isdecimal() or int(number) >= len(parameters) or name not in names:
            raise ValueError(f"block {index}, {key}: there is no such parameter or slot")
        if array.ndim:
            _check(f"block {index}, {key}", parameters[int(number)], array)
        slots.setdefault(int(number), {})[name] = _tensor(array)
    if any(set(kept) != names for kept in slots.values()):
        raise ValueError(f"block {index}: its optimiser needs {sorted(names)} of each parameter")
    groups = optimiser.state_dict()["param_groups"]
    optimiser.load_state_dict({"state": slots, "param_groups": groups})


def _check(what: str, mine: Tensor, theirs: NDArray[Any]) -> None:
    wanted = _array(mine)
    if wanted.shape != theirs.shape or wanted.dtype != theirs.dtype:
        raise ValueError(
            f"{what} is {theirs.dtype} {theirs.shape}, expected {wanted.dtype} {wanted.shape}"
        )


def _array(value: Tensor) -> NDArray[Any]:
    return value.detach().cpu().numpy().copy()


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(array))


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _set_mode(module: nn.Module, train: bool, again: bool) -> None:
    """Training or evaluation; frozen blocks decide themselves (core.models.blocks)."""
    module.train(train)
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            # Without tracking, statistics are those of the batch and the running ones stay.
            part.track_running_stats = not (train and again)


MASK = 0.1  # how much the mask counts beside the image


def loss_of(outputs: Tensor, targets: NDArray[Any]) -> tuple[Tensor, int | None]:
    """(Mean loss, number of right answers) of a batch, of images with masks or of classes; with
    images nothing is right or wrong."""
    if targets.ndim == 4:
        return image_loss(outputs, targets), None
    return class_loss(outputs, targets)


def image_loss(outputs: Tensor, targets: NDArray[np.uint8]) -> Tensor:
    """Mean squared error of the colours, from 0 to 1, and a tenth of the binary cross-entropy of
    the mask. outputs: N x 4 x H x W, the mask as logits. targets: N x H x W x 4."""
    wanted = torch.from_numpy(targets).permute(0, 3, 1, 2).float() / 255
    colours = nn.functional.mse_loss(outputs[:, :3], wanted[:, :3])
    mask = nn.functional.binary_cross_entropy_with_logits(outputs[:, 3:], wanted[:, 3:])
    return colours + MASK * mask


def class_loss(logits: Tensor, labels: NDArray[np.int64]) -> tuple[Tensor, int]:
    """(Mean cross-entropy, number of right answers) of a batch."""
    wanted = torch.from_numpy(labels)
    loss = nn.functional.cross_entropy(logits, wanted)
    return loss, int((logits.detach().argmax(1) == wanted).sum())
