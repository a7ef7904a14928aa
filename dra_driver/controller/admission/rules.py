"""What is refused and what is warned about: the rules for claims, templates and classes.

Refused is what could never work or may not be had; what only looks wrong on the cluster of today is a warning, since
a larger card may come tomorrow. On an update only what changed is judged: an object that was allowed stays editable.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from http import HTTPStatus

from dra_driver.api.vgpuconfig import Source, VgpuConfig, decode
from dra_driver.controller.admission.features import Feature
from dra_driver.controller.admission.permissions import Permissions
from dra_driver.controller.admission.reach import Reach
from dra_driver.controller.admission.review import ALLOWED, Answer, Operation, Refusal, Review
from dra_driver.controller.admission.subjects import DEVICE_CLASS, GROUP, Parameters, Subject, read_subject
from dra_driver.errors import ConfigRejected, ObjectRejected
from dra_driver.kube.quantities import whole


class Reason(StrEnum):
    """Why an object is refused."""

    BAD_CONFIG = "BadConfig"
    HIGH_PRIORITY = "HighPriorityNotAllowed"
    OVERSUBSCRIBE = "OversubscribeNotAllowed"


_REASONS = {Feature.HIGH_PRIORITY: Reason.HIGH_PRIORITY, Feature.OVERSUBSCRIBE: Reason.OVERSUBSCRIBE}


class ObjectRules:
    """Judges claims, templates and classes."""

    def __init__(self, *, driver: str, permissions: Permissions, reach: Reach) -> None:
        self._driver = driver
        self._permissions = permissions
        self._reach = reach

    async def review(self, review: Review) -> Answer:
        """See Reviewer."""
        if review.new is None or review.operation not in (Operation.CREATE, Operation.UPDATE):
            return ALLOWED
        subject = self._subject(review)
        refusal = await self._refusal(review, subject.parameters)
        return Answer(refusal) if refusal else Answer(warnings=tuple(self._reach.warnings(subject.asks)))

    def _subject(self, review: Review) -> Subject:
        if review.group != GROUP:
            raise ObjectRejected("AdmissionReview", "request.kind.group", f"is not {GROUP}")
        assert review.new is not None
        subject = read_subject(review.kind, review.version, review.new, driver=self._driver)
        if review.old is None:
            return subject
        return subject.beyond(read_subject(review.kind, review.version, review.old, driver=self._driver))

    async def _refusal(self, review: Review, every: tuple[Parameters, ...]) -> Refusal | None:
        """The first kind of trouble that there is, with all places of it."""
        configs: list[tuple[str, VgpuConfig]] = []
        bad: list[str] = []
        for one in every:
            try:
                configs.append((one.path, decode(_object(review, one), Source(review.subject, one.path))))
            except ConfigRejected as error:
                bad.append(f"{error.path}: {error.problem}")
        if bad:
            return Refusal(Reason.BAD_CONFIG, "; ".join(bad))
        # Whoever may write a class may give it to everybody.
        return None if review.kind == DEVICE_CLASS else await self._not_permitted(review.namespace, configs)

    async def _not_permitted(self, namespace: str, configs: list[tuple[str, VgpuConfig]]) -> Refusal | None:
        for path, config in configs:
            for feature, field in _features(config):
                if not await self._permissions.allows(namespace, feature):
                    message = (
                        f"{path}.{field}: not allowed in namespace {namespace}; whoever runs the cluster can allow it "
                        f"with the namespace's label {feature.label}=true"
                    )
                    return Refusal(_REASONS[feature], message, HTTPStatus.FORBIDDEN)
        return None


def _features(config: VgpuConfig) -> Iterator[tuple[Feature, str]]:
    """What a config asks for that may need a permission, and the field that does."""
    if config.priority == "high":
        yield Feature.HIGH_PRIORITY, "priority"
    if whole(config.memory.oversubscribe.host_memory):
        yield Feature.OVERSUBSCRIBE, "memory.oversubscribe.hostMemory"


def _object(review: Review, one: Parameters) -> dict[str, object]:
    if not isinstance(one.wire, dict):
        raise ConfigRejected(review.subject, one.path, "must be an object with apiVersion and kind")
    return one.wire
