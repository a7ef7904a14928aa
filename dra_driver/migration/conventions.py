"""How pods ask HAMi for cards: names of resources and annotations, and what is meant where some are left out.

The names are HAMi's defaults; an installation that renamed them has a device configuration of its own, which
`device_config.py` reads.
Source: github.com/Project-HAMi/HAMi 4707fb0, charts/hami/values.yaml, charts/hami/templates/scheduler/
device-configmap.yaml, pkg/device/{nvidia,hygon,ascend,kunlun}; volcano.sh/volcano, pkg/scheduler/api/devices.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_LABEL_LETTERS = re.compile(r"[^a-z0-9]+")

SCHEDULER = "hami-scheduler"
IGNORED_LABEL = "hami.io/webhook"
IGNORED_VALUE = "ignore"


@dataclass(frozen=True)
class Choice:
    """The annotations by which a pod says which cards it wants and which not, by commas."""

    use_uuid: tuple[str, ...] = ()
    avoid_uuid: tuple[str, ...] = ()
    use_type: tuple[str, ...] = ()
    avoid_type: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All of them."""
        return self.use_uuid + self.avoid_uuid + self.use_type + self.avoid_type


@dataclass(frozen=True)
class Convention:
    """One way of asking for cards: names of extended resources, and what they mean.

    Memory is counted in MiB times `memory_factor`. `implied_count` is the number of cards where only the other
    resources are named, 0 where they mean nothing alone. `default_memory` (MiB) and `default_cores` (percent) stand in
    for what is not named; memory 0 is all of the card. What asks for more than `largest_part` MiB gets a whole card.
    `models` are the cards that the name means, by the models that a backend may publish for them.
    """

    vendor: str
    request: str
    count: str
    memory: str = ""
    percentage: str = ""
    cores: str = ""
    priority: str = ""
    implied_count: int = 0
    default_memory: int = 0
    default_cores: int = 0
    memory_factor: int = 1
    largest_part: int = 0
    models: tuple[str, ...] = ()
    type_prefix: str = ""
    choice: Choice = Choice()

    @property
    def names(self) -> tuple[str, ...]:
        """The resources of this convention."""
        named = (self.count, self.memory, self.percentage, self.cores, self.priority)
        return tuple(name for name in named if name)


_NVIDIA_TYPES = {"use_type": ("nvidia.com/use-gputype",), "avoid_type": ("nvidia.com/nouse-gputype",)}

NVIDIA = Convention(
    vendor="nvidia",
    request="gpu",
    count="nvidia.com/gpu",
    memory="nvidia.com/gpumem",
    percentage="nvidia.com/gpumem-percentage",
    cores="nvidia.com/gpucores",
    priority="nvidia.com/priority",
    implied_count=1,
    type_prefix="NVIDIA-",
    choice=Choice(("nvidia.com/use-gpuuuid",), ("nvidia.com/nouse-gpuuuid",), **_NVIDIA_TYPES),
)
# Volcano's own device plugin for shared cards came from HAMi, and keeps its meanings under other names.
VOLCANO = Convention(
    vendor="nvidia",
    request="vgpu",
    count="volcano.sh/vgpu-number",
    memory="volcano.sh/vgpu-memory",
    percentage="volcano.sh/vgpu-memory-percentage",
    cores="volcano.sh/vgpu-cores",
    type_prefix="NVIDIA-",
    choice=Choice(("volcano.sh/vgpu-use-gpuuuid",), ("volcano.sh/vgpu-nouse-gpuuuid",), **_NVIDIA_TYPES),
)
HYGON = Convention(
    vendor="hygon",
    request="dcu",
    count="hygon.com/dcunum",
    memory="hygon.com/dcumem",
    cores="hygon.com/dcucores",
    default_cores=100,
    type_prefix="DCU-",
    choice=Choice(
        *(("hygon.com/use-gpuuuid",), ("hygon.com/nouse-gpuuuid",)),
        *(("hygon.com/use-dcutype",), ("hygon.com/nouse-dcutype",)),
    ),
)
_XPU_CHOICE = Choice(
    ("hami.io/use-xpu-uuid", "baidu.com/use-gpuuuid"), ("hami.io/no-use-xpu-uuid", "baidu.com/nouse-gpuuuid")
)
KUNLUNXIN = (
    Convention("kunlunxin", "xpu", count="kunlunxin.com/xpu", choice=_XPU_CHOICE),
    Convention(
        *("kunlunxin", "vxpu"),
        count="kunlunxin.com/vxpu",
        memory="kunlunxin.com/vxpu-memory",
        largest_part=49152,
        choice=_XPU_CHOICE,
    ),
)


def ascend(word: str, chip: str, *, largest_part: int, memory_factor: int = 1) -> Convention:
    """The convention for one kind of Ascend chip: HAMi's common word, the chip's name, its largest template (MiB)."""
    spellings = {chip, word, word.removeprefix("Ascend"), f"Ascend{chip.removeprefix('Ascend')}"}
    return Convention(
        vendor="ascend",
        request=f"npu-{_LABEL_LETTERS.sub('-', word.removeprefix('Ascend').lower()).strip('-') or 'any'}",
        count=f"huawei.com/{word}",
        memory=f"huawei.com/{word}-memory",
        cores=f"huawei.com/{word}-core",
        largest_part=largest_part,
        memory_factor=memory_factor,
        models=tuple(sorted(spellings)),
        choice=Choice((f"hami.io/use-{word}-uuid",), (f"hami.io/no-use-{word}-uuid",)),
    )


ASCEND = (
    ascend("Ascend910A", "910A", largest_part=17476),
    ascend("Ascend910B2", "910B2", largest_part=32768),
    ascend("Ascend910B3", "910B3", largest_part=32768),
    ascend("Ascend910B4-1", "910B4-1", largest_part=32768),
    ascend("Ascend910B4", "910B4", largest_part=16384),
    ascend("Ascend310P", "310P3", largest_part=12288),
    ascend("Ascend910C", "Ascend910", largest_part=32768),
)
DEFAULT: tuple[Convention, ...] = (NVIDIA, VOLCANO, HYGON, *ASCEND, *KUNLUNXIN)

# Vendors that HAMi serves and no backend here does: such pods are left to whoever serves them.
FOREIGN = (
    *("cambricon.com/", "metax-tech.com/", "iluvatar.ai/", "mthreads.com/", "enflame.com/", "amd.com/"),
    *("aws.amazon.com/neuron", "vastaitech.com/", "birentech.com/", "nvidia.com/mig-"),
)

MODE = "nvidia.com/vgpu-mode"
SHARED_MODE = "hami-core"
ASCEND_MODE = "huawei.com/vnpu-mode"
NUMA_BIND = "nvidia.com/numa-bind"
NODE_POLICY = "hami.io/node-scheduler-policy"
CARD_POLICY = "hami.io/gpu-scheduler-policy"
SCORING = "hami.io/device-scoring-weights"
DISABLED = "CUDA_DISABLE_CONTROL"
CORE_POLICY = "GPU_CORE_UTILIZATION_POLICY"
