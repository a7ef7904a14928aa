"""Puts the parts together, and is the only place that knows a vendor by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dra_driver.errors import SettingsRejected
from dra_driver.settings import PluginSettings
from drivers.backend import DeviceBackend


def _nvidia(settings: PluginSettings) -> DeviceBackend:
    # Loaded only where the vendor is switched on: another node need not have its library's binding.
    from drivers.nvidia import open_backend

    return open_backend(
        shares=settings.shares_per_card,
        cdi_dirs=settings.vendor_cdi_folders,
        sysfs=settings.sysfs,
        harmless_xids=frozenset(settings.harmless_xids) or None,
    )


_VENDORS: Mapping[str, Callable[[PluginSettings], DeviceBackend]] = {"nvidia": _nvidia}


def open_backends(settings: PluginSettings) -> dict[str, DeviceBackend]:
    """Open the backends that are switched on, by vendor. Raises SettingsRejected for an unknown vendor."""
    unknown = [vendor for vendor in settings.vendors if vendor not in _VENDORS]
    if unknown:
        raise SettingsRejected(f"setting vendors: {unknown[0]!r} is none of {', '.join(_VENDORS)}")
    return {vendor: _VENDORS[vendor](settings) for vendor in settings.vendors}
