"""Control of the simulated cards, and the witness of what really happened on them.

Tests and the demo use it to make a machine, to break it in chosen ways, and to ask it for the truth:
what the cards themselves accounted, whatever a library in between told its program.

    python native/simgpu/simgpuctl.py --state FILE create [--cards FILE]
    python native/simgpu/simgpuctl.py --state FILE show
    python native/simgpu/simgpuctl.py --state FILE fail cuMemAlloc 2 --after 3 --times 1
    python native/simgpu/simgpuctl.py --state FILE lose 0 | restore 0 | xid 0 79 | ecc 0 --uncorrected 1
"""

import argparse
import ctypes
import dataclasses
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import statefile
from cards import CardDescription, MachineDescription, read_description

XID_EVENT = 8  # nvmlEventTypeXidCriticalError
CORRECTED_EVENT = 1
UNCORRECTED_EVENT = 2


@dataclasses.dataclass(frozen=True)
class ProcessReport:
    """One live process on a card. `pid` is in the reader's PID namespace, 0 when not visible there."""

    pid: int
    own_pid: int
    bytes: int
    peak_bytes: int
    contexts: int
    launches: int
    busy_ns: int


@dataclasses.dataclass(frozen=True)
class CardReport:
    """One card: bytes, counts, and how many ns its queue still is long."""

    index: int
    name: str
    uuid: str
    minor: int
    total: int
    used: int
    peak: int
    launches: int
    refused: int
    released: int
    lost: bool
    queue_ns: int
    ecc_corrected: int
    ecc_uncorrected: int
    processes: tuple[ProcessReport, ...]


@dataclasses.dataclass(frozen=True)
class FaultReport:
    """A planned failure and how often it has hit."""

    function: str
    code: int
    active: bool
    hits: int


@dataclasses.dataclass(frozen=True)
class Report:
    """Everything the state knows."""

    driver_version: str
    cards: tuple[CardReport, ...]
    faults: tuple[FaultReport, ...]


def create(state: Path, machine: MachineDescription) -> None:
    """Makes a fresh state file, replacing one that is there. Those who map the old one keep it."""
    fresh = statefile.State(magic=statefile.MAGIC, layout=statefile.LAYOUT, size=ctypes.sizeof(statefile.State))
    fresh.card_count = len(machine.cards)
    fresh.cuda_version = machine.cuda_version
    fresh.driver_version = machine.driver_version.encode()
    fresh.nvml_version = machine.nvml_version.encode()
    fresh.foreign_pids = machine.foreign_pids
    fresh.linger_ns = machine.linger_ns
    fresh.event_percent = machine.event_percent
    for index, card in enumerate(machine.cards):
        _write_facts(fresh.cards[index].facts, card)
    state.parent.mkdir(parents=True, exist_ok=True)
    temporary = state.with_name(f".{state.name}.{os.getpid()}")
    head = bytes(memoryview(fresh).cast("B")[: statefile.State.slots.offset])
    with temporary.open("wb") as file:
        file.write(head)
        file.truncate(ctypes.sizeof(statefile.State))
        os.fchmod(file.fileno(), 0o666)  # containers run as any user; the card is not what is protected
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(state)


def _write_facts(facts: statefile.CardFacts, card: CardDescription) -> None:
    address, _, _ = card.pci_bus_id.rpartition(".")
    facts.pci_domain, facts.pci_bus, facts.pci_device = (int(part, 16) for part in address.split(":"))
    facts.compute_major, facts.compute_minor = (int(part) for part in card.compute_capability.split("."))
    for field in dataclasses.fields(card):
        value = getattr(card, field.name)
        if field.name not in ("pci_bus_id", "compute_capability"):
            setattr(facts, field.name, value.encode() if isinstance(value, str) else value)


def show(state: Path) -> Report:
    """What is on the cards now; the dead are left out, whether or not anybody has cleared up yet."""
    opened = statefile.OpenState.at(state)
    raw = opened.state
    alive = {slot: pid for slot in range(statefile.MAX_SLOTS) if (pid := opened.owner(slot)) is not None}
    cards = tuple(_card_report(raw, index, alive) for index in range(raw.card_count))
    faults = tuple(
        FaultReport(fault.function.decode(), int(fault.code), bool(fault.active), int(fault.hits))
        for fault in raw.faults
        if fault.function
    )
    return Report(raw.driver_version.decode(), cards, faults)


def _card_report(raw: statefile.State, index: int, alive: dict[int, int]) -> CardReport:
    card = raw.cards[index]
    processes = tuple(
        ProcessReport(
            pid=pid,
            own_pid=int(raw.slots[slot].pid),
            bytes=int(account.bytes),
            peak_bytes=int(account.peak),
            contexts=int(account.contexts),
            launches=int(account.launches),
            busy_ns=int(account.busy),
        )
        for slot, pid in alive.items()
        if (account := raw.slots[slot].accounts[index]).contexts or account.bytes or account.launches
    )
    return CardReport(
        index=index,
        name=card.facts.name.decode(),
        uuid=card.facts.uuid.decode(),
        minor=int(card.facts.minor),
        total=int(card.facts.memory),
        used=sum(process.bytes for process in processes),
        peak=int(card.peak),
        launches=int(card.launches),
        refused=int(card.refused),
        released=int(card.released),
        lost=bool(card.lost),
        queue_ns=max(0, int(card.busy_until) - statefile.monotonic_ns()),
        ecc_corrected=int(card.ecc_corrected),
        ecc_uncorrected=int(card.ecc_uncorrected),
        processes=processes,
    )


def fail(state: Path, function: str, code: int, after: int = 1, times: int = 1) -> None:
    """Plans that the `after`-th next call of `function`, and `times` - 1 more, return `code`.

    A name without a version suffix stands for all versions. ValueError when no place is left.
    """
    raw = statefile.OpenState.at(state).state
    for fault in raw.faults:
        if not fault.active:
            fault.function, fault.countdown, fault.repeat = function.encode(), after, times
            fault.code, fault.hits, fault.active = code, 0, 1
            raw.armed += 1
            return
    raise ValueError("all places for planned failures are in use")


def heal(state: Path) -> None:
    """Forgets all planned failures and brings every lost card back."""
    raw = statefile.OpenState.at(state).state
    for fault in raw.faults:
        fault.active, fault.function = 0, b""
    for card in raw.cards:
        card.lost = 0
    raw.armed = 0


def lose(state: Path, card: int) -> None:
    """The card falls off the bus. IndexError when there is no such card."""
    raw = statefile.OpenState.at(state).state
    raw.armed += 0 if _card(raw, card).lost else 1
    _card(raw, card).lost = 1


def restore(state: Path, card: int) -> None:
    """The card comes back."""
    raw = statefile.OpenState.at(state).state
    raw.armed -= 1 if _card(raw, card).lost else 0
    _card(raw, card).lost = 0


def raise_event(state: Path, card: int, kind: int, code: int) -> None:
    """Raises an event that NVML delivers to those who registered for it."""
    raw = statefile.OpenState.at(state).state
    _card(raw, card)
    event = raw.events[raw.event_count % statefile.MAX_EVENTS]
    event.card, event.type, event.code = card, kind, code
    event.number = raw.event_count + 1
    raw.event_count += 1


def xid(state: Path, card: int, code: int) -> None:
    """Raises a critical XID error on the card."""
    raise_event(state, card, XID_EVENT, code)


def add_ecc_errors(state: Path, card: int, corrected: int = 0, uncorrected: int = 0) -> None:
    """Counts ECC errors on the card, and raises the events that go with them."""
    entry = _card(statefile.OpenState.at(state).state, card)
    entry.ecc_corrected += corrected
    entry.ecc_uncorrected += uncorrected
    if corrected:
        raise_event(state, card, CORRECTED_EVENT, 0)
    if uncorrected:
        raise_event(state, card, UNCORRECTED_EVENT, 0)


def _card(raw: statefile.State, index: int) -> statefile.Card:
    if not 0 <= index < raw.card_count:
        raise IndexError(f"no card {index}: the machine has {raw.card_count}")
    card: statefile.Card = raw.cards[index]
    return card


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, default=Path(os.environ.get("SIMGPU_STATE", "/run/simgpu/state")))
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("create", help="make the state file").add_argument("--cards", type=Path)
    commands.add_parser("show", help="print what is on the cards, as JSON")
    commands.add_parser("heal", help="forget planned failures, restore all cards")
    failing = commands.add_parser("fail", help="plan that a call fails")
    failing.add_argument("function")
    failing.add_argument("code", type=int)
    failing.add_argument("--after", type=int, default=1, help="the n-th next call (default 1)")
    failing.add_argument("--times", type=int, default=1, help="how many calls in a row (default 1)")
    for name, text in (("lose", "the card falls off the bus"), ("restore", "the card comes back")):
        commands.add_parser(name, help=text).add_argument("card", type=int)
    raising = commands.add_parser("xid", help="raise an XID error on a card")
    raising.add_argument("card", type=int)
    raising.add_argument("code", type=int)
    counting = commands.add_parser("ecc", help="count ECC errors on a card")
    counting.add_argument("card", type=int)
    counting.add_argument("--corrected", type=int, default=0)
    counting.add_argument("--uncorrected", type=int, default=0)
    return parser


def _run(arguments: argparse.Namespace) -> None:
    state: Path = arguments.state
    match arguments.command:
        case "create":
            create(state, read_description(arguments.cards))
        case "show":
            print(json.dumps(dataclasses.asdict(show(state)), indent=2))
        case "heal":
            heal(state)
        case "fail":
            fail(state, arguments.function, arguments.code, arguments.after, arguments.times)
        case "lose":
            lose(state, arguments.card)
        case "restore":
            restore(state, arguments.card)
        case "xid":
            xid(state, arguments.card, arguments.code)
        case "ecc":
            add_ecc_errors(state, arguments.card, arguments.corrected, arguments.uncorrected)


def main() -> int:
    """Exit status 0, or 1 with the reason on stderr."""
    try:
        _run(_parser().parse_args())
    except (OSError, ValueError, IndexError) as error:
        print(f"simgpuctl: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
