"""Annotations that choose cards: the selectors say of each card what HAMi would say."""

from __future__ import annotations

import pytest

from dra_driver.errors import ObjectRejected
from dra_driver.explain.objects import Device
from dra_driver.explain.pools import Card
from dra_driver.explain.selectors import Answer, judge
from dra_driver.migration.pods import migrate
from tests.unit.migration.pods_for_hami import SIXTEEN, conditions, container, migrated, pod, requests_of


def chosen(annotations: dict[str, str], *, uuid: str = "GPU-1", model: str = "NVIDIA A100-SXM4-80GB") -> bool:
    """Whether a pod with these annotations may have the card, as the selectors are judged."""
    (request,) = requests_of(migrated(pod(container(nvidia_gpu=1), annotations=annotations)))
    attributes = {"uuid": {"string": uuid}, "model": {"string": model}}
    card = Card("vgpu.hami.io", "pool", Device.model_validate({"name": "gpu-0", "attributes": attributes}), ())
    answers = {judge(condition, card).answer for condition in conditions(request)}
    assert answers <= {Answer.YES, Answer.NO}, "kubectl vgpu explain must be able to tell"
    return Answer.NO not in answers


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({"nvidia.com/use-gpuuuid": "GPU-1"}, True),
        ({"nvidia.com/use-gpuuuid": "GPU-2, GPU-1"}, True),
        ({"nvidia.com/use-gpuuuid": "GPU-2"}, False),
        ({"nvidia.com/use-gpuuuid": "GPU-11"}, False),
        ({"nvidia.com/use-gpuuuid": " , "}, True),
        ({"nvidia.com/nouse-gpuuuid": "GPU-1,GPU-2"}, False),
        ({"nvidia.com/nouse-gpuuuid": "GPU-2"}, True),
        ({"nvidia.com/use-gpuuuid": "GPU-1", "nvidia.com/nouse-gpuuuid": "GPU-1"}, False),
        ({"hygon.com/use-gpuuuid": "DCU-1"}, True),
    ],
)
def test_uuids_are_compared_as_they_are(annotations: dict[str, str], expected: bool) -> None:
    assert chosen(annotations) is expected


@pytest.mark.parametrize(
    ("annotations", "model", "expected"),
    [
        ({"nvidia.com/use-gputype": "A100,V100"}, "NVIDIA A100-SXM4-80GB", True),
        ({"nvidia.com/use-gputype": "a100"}, "NVIDIA A100-SXM4-80GB", True),
        ({"nvidia.com/use-gputype": "A100"}, "Tesla V100", False),
        ({"nvidia.com/use-gputype": "NVIDIA-NVIDIA A100"}, "NVIDIA A100-SXM4-80GB", True),
        ({"nvidia.com/use-gputype": "NVIDIA-Tesla V100"}, "Tesla V100-PCIE", True),
        ({"nvidia.com/use-gputype": "NVIDIA"}, "Tesla V100-PCIE", True),
        ({"nvidia.com/nouse-gputype": "1080,2080"}, "GeForce GTX 1080 Ti", False),
        ({"nvidia.com/nouse-gputype": "1080,2080"}, "GeForce RTX 3090", True),
        ({"nvidia.com/use-gputype": "A1.0"}, "NVIDIA A100-SXM4-80GB", False),
        ({"nvidia.com/use-gputype": "(80GB)+"}, "A (80gb)+ card", True),
    ],
)
def test_types_are_parts_of_the_model_whatever_their_case(
    annotations: dict[str, str], model: str, expected: bool
) -> None:
    assert chosen(annotations, model=model) is expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("nvidia.com/use-gpuuuid", 'GPU-1"] || true || "" in ["'),
        ("nvidia.com/use-gputype", 'A100") || true || "".matches("'),
        ("nvidia.com/use-gputype", "A100\\d"),
        ("nvidia.com/nouse-gputype", "NVIDIA"),
    ],
)
def test_what_cannot_be_a_choice_is_refused_with_the_annotation(name: str, value: str) -> None:
    with pytest.raises(ObjectRejected) as refused:
        migrate(pod(container(nvidia_gpu=1), annotations={name: value}), SIXTEEN, subject="Pod team/train")
    assert refused.value.path == f"metadata.annotations[{name}]"


def test_a_choice_holds_for_every_size_of_a_percentage_too() -> None:
    wire = pod(container(nvidia_gpumem_percentage=50), annotations={"nvidia.com/use-gpuuuid": "GPU-1"})
    (request,) = requests_of(migrated(wire))
    assert conditions(request)[0] == 'device.attributes["vgpu.hami.io"].uuid in ["GPU-1"]'
    assert len(conditions(request)) == 2
