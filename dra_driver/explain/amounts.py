"""What a request consumes of a capacity: the allocator's rounding, in exact numbers.

Source: consumable_capacity.go of k8s.io/dynamic-resource-allocation/structured (1.37, fractional ranges on).
"""

from __future__ import annotations

import math
from fractions import Fraction

from dra_driver.explain.objects import Capacity, Number, Policy, Range
from dra_driver.kube.quantities import binary

_LARGEST = (1 << 63) - 1


class NotRepresentable(ValueError):
    """The amount cannot be rounded in the allocator's arithmetic, which then refuses the whole claim."""


def consumed(asked: Number | None, capacity: Capacity) -> Number:
    """What is taken when `asked` is asked for; None is a request that does not name this capacity.

    Raises NotRepresentable.
    """
    policy = capacity.request_policy
    if asked is None:
        amount = capacity.value if policy is None or policy.default is None else policy.default
    elif policy is None:
        amount = asked
    elif policy.valid_range is not None and policy.valid_range.min is not None:
        amount = _up_in_range(asked, policy.valid_range, policy.valid_range.min)
    else:
        amount = next((value for value in policy.valid_values if asked <= value), asked)
    if amount < 0:
        raise NotRepresentable(f"{write(amount)} is negative")
    return amount


def breaks_policy(amount: Number, policy: Policy | None) -> bool:
    """Whether a rounded amount is beyond what the policy allows."""
    if policy is None or amount == policy.default:
        return False
    if policy.valid_range is not None:
        allowed = policy.valid_range
        if allowed.max is not None and amount > allowed.max:
            return True
        if allowed.step is None or allowed.min is None:
            return False
        unit = 1000 if _in_milli(allowed) else 1
        return (math.ceil(amount * unit) - math.ceil(allowed.min * unit)) % math.ceil(allowed.step * unit) != 0
    return bool(policy.valid_values) and amount not in policy.valid_values


def most_allowed(free: Number, capacity: Capacity) -> Number | None:
    """The largest amount that may be asked for and that `free` still holds; None where there is none."""
    policy = capacity.request_policy
    if policy is None:
        return free if free > 0 else None
    if policy.valid_range is not None and policy.valid_range.min is not None:
        least, step = policy.valid_range.min, policy.valid_range.step
        top = free if policy.valid_range.max is None else min(free, policy.valid_range.max)
        if top < least:
            return None
        return least + (top - least) // step * step if step else top
    fitting = [value for value in policy.valid_values if value <= free]
    if policy.valid_values:
        return max(fitting, default=None)
    return free if free > 0 else None


def write(amount: Number) -> str:
    """Write an amount for people and for manifests: `4Gi`, `16.1Gi`, `30`, `1500m`; rounded up where it must be."""
    if isinstance(amount, Fraction) and amount.denominator != 1:
        return _in_part(amount) or f"{math.ceil(amount * 1000)}m"
    whole = int(amount)
    return f"-{binary(-whole)}" if whole < 0 else binary(whole)


def _in_part(amount: Fraction) -> str:
    """`16.1Gi`, where two digits say it exactly."""
    for suffix, bits in (("Gi", 30), ("Mi", 20), ("Ki", 10)):
        part = amount / (1 << bits)
        if part >= 1 and (part * 100).denominator == 1:
            return f"{float(part):g}{suffix}"
    return ""


def _up_in_range(asked: Number, allowed: Range, least: Number) -> Number:
    if asked < least:
        return least
    if allowed.step is None:
        return asked
    unit = 1000 if _in_milli(allowed) else 1
    if unit == 1000 and (asked * 1000 != math.ceil(asked * 1000) or asked * 1000 > _LARGEST):
        raise NotRepresentable(f"{write(asked)} is not a whole number of thousandths")
    if asked > _LARGEST:
        raise NotRepresentable(f"{write(asked)} is too large")
    start, step = math.ceil(least * unit), math.ceil(allowed.step * unit)
    rounded = start - (start - math.ceil(asked * unit)) // step * step
    if rounded > _LARGEST:
        raise NotRepresentable(f"{write(asked)} is too large once rounded up")
    return rounded if unit == 1 else _plain(Fraction(rounded, 1000))


def _in_milli(allowed: Range) -> bool:
    """Whether the allocator counts this range in thousandths: when all of its bounds are such."""
    bounds = [bound for bound in (allowed.min, allowed.max, allowed.step) if bound is not None]
    return all(bound * 1000 == math.ceil(bound * 1000) and bound * 1000 <= _LARGEST for bound in bounds)


def _plain(number: Fraction) -> Number:
    return number.numerator if number.denominator == 1 else number
