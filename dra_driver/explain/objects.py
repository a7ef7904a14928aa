"""API objects as far as placement depends on them, parsed once into frozen values.

Fields of a newer Kubernetes are left unread. Quantities become exact numbers, so that nothing downstream compares text.
Source: k8s.io/api/resource/v1/types.go, k8s.io/api/core/v1/types.go (1.37).
"""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, model_validator
from pydantic.alias_generators import to_camel

from dra_driver.kube.quantities import exact

Number = int | Fraction
AttributeValue = tuple[str, str | int | bool | tuple[str | int | bool, ...]]


def _number(value: object) -> object:
    """Read a quantity; YAML may have made a number of it already."""
    if isinstance(value, Fraction) or not isinstance(value, str | int | float):
        return value
    quantity = exact(str(value))
    return quantity.numerator if quantity.denominator == 1 else quantity


Quantity = Annotated[int | Annotated[Fraction, Field()], BeforeValidator(_number)]


class Wire(BaseModel):
    """Base of all values read from API objects."""

    model_config = ConfigDict(
        extra="ignore", frozen=True, alias_generator=to_camel, populate_by_name=True, arbitrary_types_allowed=True
    )

    @model_validator(mode="before")
    @classmethod
    def _absent(cls, wire: Any) -> Any:
        """A null in a manifest is a field that is not there."""
        if isinstance(wire, dict) and None in wire.values():
            return {name: value for name, value in wire.items() if value is not None}
        return wire


class Attribute(Wire):
    """One attribute of a device; exactly one field is set."""

    string: str | None = None
    int_: int | None = Field(default=None, validation_alias="int")
    bool_: bool | None = Field(default=None, validation_alias="bool")
    version: str | None = None
    strings: tuple[str, ...] | None = None
    ints: tuple[int, ...] | None = None
    bools: tuple[bool, ...] | None = None
    versions: tuple[str, ...] | None = None

    @property
    def value(self) -> AttributeValue | None:
        """The kind and the value; None for a kind of the future."""
        for kind in ("string", "int_", "bool_", "version", "strings", "ints", "bools", "versions"):
            found = getattr(self, kind)
            if found is not None:
                return kind, found
        return None


class Range(Wire):
    """Which amounts a request may have: from min, in steps, up to max."""

    min: Quantity | None = None
    max: Quantity | None = None
    step: Quantity | None = None


class Policy(Wire):
    """How a request is rounded, and what it is when absent."""

    default: Quantity | None = None
    valid_values: tuple[Quantity, ...] = ()
    valid_range: Range | None = None


class Capacity(Wire):
    """What a device has of something."""

    value: Quantity
    request_policy: Policy | None = None


class Taint(Wire):
    """What keeps claims away from a device unless they tolerate it."""

    key: str
    value: str = ""
    effect: str


class Toleration(Wire):
    """Which taints a request does not mind."""

    key: str = ""
    operator: str = ""
    value: str = ""
    effect: str = ""

    def covers(self, taint: Taint) -> bool:
        """Whether it tolerates that taint."""
        if self.effect not in ("", taint.effect) or self.key not in ("", taint.key):
            return False
        return self.operator == "Exists" or (self.operator in ("", "Equal") and self.value == taint.value)


class Expression(Wire):
    """A requirement of a node selector."""

    key: str
    operator: str
    values: tuple[str, ...] = ()


class Term(Wire):
    """Requirements that must all hold."""

    match_expressions: tuple[Expression, ...] = ()
    match_fields: tuple[Expression, ...] = ()


class NodeSelector(Wire):
    """Terms of which one must hold."""

    node_selector_terms: tuple[Term, ...] = ()


class Counter(Wire):
    """An amount of a counter."""

    value: Quantity


class CounterSet(Wire):
    """Counters that partitions of one card draw from."""

    name: str
    counters: dict[str, Counter] = {}


class CounterUse(Wire):
    """What a device draws from a counter set."""

    counter_set: str
    counters: dict[str, Counter] = {}


class Device(Wire):
    """A device as published."""

    name: str
    attributes: dict[str, Attribute] = {}
    capacity: dict[str, Capacity] = {}
    taints: tuple[Taint, ...] = ()
    allow_multiple_allocations: bool | None = None
    consumes_counters: tuple[CounterUse, ...] = ()
    node_name: str | None = None
    node_selector: NodeSelector | None = None
    all_nodes: bool | None = None
    binding_conditions: tuple[str, ...] | None = None
    compatibility_groups: Any = None
    # Answers of selectors on this very device, which never change; see selectors.judge.
    _judged: dict[tuple[str, str], Any] = PrivateAttr(default_factory=dict)

    @property
    def judged(self) -> dict[tuple[str, str], Any]:
        """What selectors said of it, by driver and expression."""
        return self._judged


class PoolRef(Wire):
    """The pool of a slice, and how many slices make the pool whole."""

    name: str
    generation: int = 0
    resource_slice_count: int


class SliceSpec(Wire):
    """The content of a slice."""

    driver: str
    pool: PoolRef
    node_name: str | None = None
    node_selector: NodeSelector | None = None
    all_nodes: bool | None = None
    per_device_node_selection: bool | None = None
    shared_counters: tuple[CounterSet, ...] = ()
    devices: tuple[Device, ...] = ()


class Metadata(Wire):
    """What names an object."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    labels: dict[str, str] = {}


class Slice(Wire):
    """A ResourceSlice."""

    metadata: Metadata
    spec: SliceSpec


class Cel(Wire):
    """A CEL expression."""

    expression: str


class Selector(Wire):
    """A selector; `cel` is None for a kind of the future."""

    cel: Cel | None = None


class ClassSpec(Wire):
    """The content of a class."""

    selectors: tuple[Selector, ...] = ()


class DeviceClass(Wire):
    """A DeviceClass."""

    metadata: Metadata
    spec: ClassSpec = ClassSpec()


class CapacityRequirements(Wire):
    """What a request asks of a device."""

    requests: dict[str, Quantity] = {}


class Ask(Wire):
    """What is asked for: an exact request, or one alternative of a prioritised list."""

    name: str = ""
    device_class_name: str = ""
    selectors: tuple[Selector, ...] = ()
    allocation_mode: str = "ExactCount"
    count: int = 1
    admin_access: bool | None = None
    tolerations: tuple[Toleration, ...] = ()
    capacity: CapacityRequirements = CapacityRequirements()
    derived_attributes: tuple[Any, ...] = ()


class Request(Wire):
    """One request of a claim: `exactly`, or the first alternative that can be had."""

    name: str
    exactly: Ask | None = None
    first_available: tuple[Ask, ...] = ()


class Constraint(Wire):
    """What the devices of several requests must share, or must not."""

    requests: tuple[str, ...] = ()
    match_attribute: str | None = None
    distinct_attribute: str | None = None


class ClaimDevices(Wire):
    """What a claim asks for."""

    requests: tuple[Request, ...] = ()
    constraints: tuple[Constraint, ...] = ()


class ClaimSpec(Wire):
    """The content of a claim."""

    devices: ClaimDevices = ClaimDevices()


class AllocatedDevice(Wire):
    """One device or share that a claim has."""

    request: str
    driver: str
    pool: str
    device: str
    share_id: str | None = Field(default=None, validation_alias="shareID")
    consumed_capacity: dict[str, Quantity] | None = None
    admin_access: bool | None = None

    @property
    def card(self) -> tuple[str, str, str]:
        """Driver, pool and device."""
        return self.driver, self.pool, self.device


class AllocatedDevices(Wire):
    """All that a claim has."""

    results: tuple[AllocatedDevice, ...] = ()


class Allocation(Wire):
    """An allocation."""

    devices: AllocatedDevices = AllocatedDevices()


class Consumer(Wire):
    """Who uses a claim."""

    resource: str = ""
    name: str = ""
    uid: str = ""


class ClaimStatus(Wire):
    """What became of a claim."""

    allocation: Allocation | None = None
    reserved_for: tuple[Consumer, ...] = ()


class Claim(Wire):
    """A ResourceClaim."""

    metadata: Metadata
    spec: ClaimSpec = ClaimSpec()
    status: ClaimStatus = ClaimStatus()

    @property
    def results(self) -> tuple[AllocatedDevice, ...]:
        """What it has; empty while it waits."""
        return self.status.allocation.devices.results if self.status.allocation else ()

    @property
    def path(self) -> str:
        """`namespace/name`."""
        return f"{self.metadata.namespace}/{self.metadata.name}"


class NodeSpec(Wire):
    """What is said of whom a node takes."""

    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()


class Node(Wire):
    """A Node."""

    metadata: Metadata
    spec: NodeSpec = NodeSpec()


class TaintRuleSelector(Wire):
    """Which devices a rule taints; what is None matches all."""

    driver: str | None = None
    pool: str | None = None
    device: str | None = None


class TaintRuleSpec(Wire):
    """The content of a rule; without a selector it matches nothing."""

    device_selector: TaintRuleSelector | None = None
    taint: Taint


class TaintRule(Wire):
    """A DeviceTaintRule: an administrator's taint on published devices."""

    metadata: Metadata
    spec: TaintRuleSpec

    def covers(self, driver: str, pool: str, device: str) -> bool:
        """Whether it taints that device."""
        chosen = self.spec.device_selector
        pairs = () if chosen is None else ((chosen.driver, driver), (chosen.pool, pool), (chosen.device, device))
        return bool(pairs) and all(wanted in (None, found) for wanted, found in pairs)
