"""The explanation that is kept up says what the pure one says, whatever happens to the cluster in whatever order."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from dra_driver.explain.admission import Placing
from dra_driver.explain.explanation import Verdict, explain
from dra_driver.explain.index import Index
from dra_driver.explain.reasons import Code
from dra_driver.explain.state import parse_claim, parse_state
from dra_driver.explain.suggesting import suggest
from dra_driver.explain.survey import Survey
from dra_driver.explain.surveys import Surveys, kindred
from tests.unit.explain.cases import CASES
from tests.unit.explain.questions import CLASSES, TAINTS, Questions, Wire
from tests.unit.explain.situations import DRIVER, card, device_class, exactly, holding, pool, waiting

SEEDS = range(5)
STEPS = 40
NODES = tuple(f"node-{letter}" for letter in "abcd")
PODS = (
    None,
    Placing(),
    Placing.model_validate({"nodeSelector": {"zone": "z1"}}),
    Placing.model_validate({"tolerations": [{"operator": "Exists"}]}),
)


class World:
    """Objects of a cluster that change at random; the index hears of every change."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.questions = Questions(seed)
        self.index = Index()
        self.objects: dict[tuple[str, str], Wire] = {}
        for name, expressions in CLASSES.items():
            selectors = [{"cel": {"expression": expression}} for expression in expressions]
            self.put({"kind": "DeviceClass", "metadata": {"name": name}, "spec": {"selectors": selectors}})
        for node in NODES:
            self.node(node)

    def put(self, wire: Wire) -> None:
        """Take an object, as it would come from a watch."""
        metadata = wire["metadata"]
        self.objects[wire["kind"], f"{metadata.get('namespace', '')}/{metadata['name']}"] = wire
        show(self.index, wire)

    def drop(self, key: tuple[str, str]) -> None:
        """Take its end."""
        wire = self.objects.pop(key)
        show(self.index, wire, gone=True)

    def change(self) -> None:
        """Something happens."""
        steps = (self.pools, self.pools, self.lose, self.lose, self.taint, lambda: self.node(self.any(NODES)))
        self.random.choice(steps)()

    def any(self, choices: tuple[str, ...]) -> str:
        """One of them."""
        return self.random.choice(choices)

    def node(self, name: str) -> None:
        """A node as it may be."""
        spec: Wire = {"unschedulable": True} if self.random.random() < 0.1 else {}
        if self.random.random() < 0.1:
            spec["taints"] = [TAINTS[0]]
        self.put({"kind": "Node", "metadata": {"name": name, "labels": {"zone": self.any(("z1", "z2"))}}, "spec": spec})

    def pools(self) -> None:
        """The slices of a question, on one of the nodes, and what is allocated; older ones of the pools end."""
        question, node = self.questions.one(), self.any(NODES)
        for wire in question["slices"]:
            spec = wire["spec"]
            if "nodeName" in spec:
                spec["nodeName"] = node
            spec["pool"]["name"] += f"-{node}"
            wire["metadata"]["name"] += f"-{node}"
        pools = {wire["spec"]["pool"]["name"] for wire in question["slices"]}
        for key, wire in list(self.objects.items()):
            if key[0] == "ResourceSlice" and wire["spec"]["pool"]["name"] in pools:
                self.drop(key)
        for wire in question["allocated"]:
            for result in wire["status"]["allocation"]["devices"]["results"]:
                result["pool"] += f"-{node}"
            wire["metadata"] = {key: f"{value}-{node}" for key, value in wire["metadata"].items()}
        for wire in (*question["slices"], *question["allocated"]):
            self.put(wire)

    def lose(self) -> None:
        """Some object ends; classes stay, mostly."""
        keys = [key for key in self.objects if key[0] != "DeviceClass" or self.random.random() < 0.05]
        if keys:
            self.drop(self.random.choice(keys))

    def taint(self) -> None:
        """A rule taints some devices."""
        selector = {"driver": DRIVER} if self.random.random() < 0.3 else {"device": f"gpu-0-{self.random.randrange(3)}"}
        spec = {"deviceSelector": selector, "taint": {**TAINTS[0], "effect": "NoSchedule"}}
        self.put({"kind": "DeviceTaintRule", "metadata": {"name": f"rule-{self.random.randrange(2)}"}, "spec": spec})


def show(index: Index, wire: Wire, *, gone: bool = False) -> None:
    """Tell an index of an object."""
    state, name = parse_state([wire]), wire["metadata"]["name"]
    for piece in state.slices:
        index.put_slice(name, None if gone else piece)
    for each in state.classes.values():
        index.put_class(name, None if gone else each)
    for claim in state.claims:
        index.put_claim(claim.metadata.uid, None if gone else claim)
    for node in state.nodes:
        index.put_node(name, None if gone else node)
    for rule in state.taint_rules:
        index.put_rule(name, None if gone else rule)


def some_surveys(world: World, number: int) -> list[Survey]:
    """Surveys of that many random claims."""
    found: list[Survey] = []
    while len(found) < number:
        claim = parse_claim(world.questions.one()["wanted"][0])
        survey = Survey(world.index, claim, world.random.choice(PODS))
        world.index.tell(survey.changed)
        found.append(survey)
    return found


def compare(world: World, survey: Survey) -> Iterator[Code]:
    """Both explanations, which must be equal; yields the reasons."""
    state = parse_state(world.objects.values())
    pure = replace(explain(state, survey.claim, survey.pod), cards=())
    assert survey.explanation(survey.claim.path) == pure
    yield from (reason.code for reason in pure.reasons)


@pytest.mark.parametrize("seed", SEEDS)
def test_after_every_change_the_kept_explanation_is_the_pure_one(seed: int) -> None:
    world = World(seed)
    kept = some_surveys(world, 5)
    codes: Counter[Code] = Counter()
    for _ in range(STEPS):
        world.change()
        for survey in kept:
            codes.update(compare(world, survey))
    assert len(codes) >= 4, codes


@pytest.mark.parametrize("code", sorted(set(CASES) - {Code.SEARCH_TOO_LONG}))
def test_each_case_is_explained_as_the_pure_function_does_and_the_same_is_suggested(code: Code) -> None:
    claim, objects = CASES[code]
    index, state, parsed = Index(), parse_state([device_class(), *objects]), parse_claim(claim)
    for wire in (device_class(), *objects):
        show(index, wire)
    surveys = Surveys(index)
    survey = surveys.of(parsed, None)
    told, pure = survey.explanation(parsed.path), explain(state, parsed)
    assert told == replace(pure, cards=())
    found = tuple(one for one in surveys.suggest(survey, told) if one is not None)
    assert found == suggest(state, parsed, pure)


def test_surveys_that_were_not_asked_for_lately_are_made_anew_with_the_same_answer() -> None:
    index = Index()
    for wire in (device_class(), pool("node-a", card("gpu-0"))):
        show(index, wire)
    surveys = Surveys(index, kept=2)
    claims = [parse_claim(waiting(exactly(capacity={"memory": f"{number}Gi"}))) for number in (17, 18, 19)]
    first = [surveys.of(claim, None).explanation("x") for claim in claims]
    assert surveys.stale(kindred(claims[0], None))
    assert not surveys.stale(kindred(claims[2], None))
    assert [surveys.of(claim, None).explanation("x") for claim in claims] == first


def test_a_change_on_one_node_looks_at_that_node_alone() -> None:
    index = Index()
    for wire in (device_class(), *(pool(f"node-{n}", card("gpu-0")) for n in range(20))):
        show(index, wire)
    claim = parse_claim(waiting(exactly(capacity={"memory": "17Gi"})))
    survey = Survey(index, claim, None)
    index.tell(survey.changed)
    assert len(list(survey.work())) == 20
    show(index, holding("team-b/one", "gpu-0", node="node-7", memory="4Gi"))
    assert len(list(survey.work())) == 1
    assert survey.fresh
    assert survey.verdict is Verdict.DOES_NOT_FIT


def test_what_does_not_matter_about_a_node_or_a_claim_changes_nothing() -> None:
    index = Index()
    for wire in (device_class(), pool("node-a", card("gpu-0")), holding("team-b/one", "gpu-0", memory="4Gi")):
        show(index, wire)
    show(index, {"kind": "Node", "metadata": {"name": "node-a"}})
    survey = Survey(index, parse_claim(waiting(exactly())), None)
    index.tell(survey.changed)
    survey.refresh()
    show(index, {"kind": "Node", "metadata": {"name": "node-a"}, "status": {"conditions": [{"type": "Ready"}]}})
    held = holding("team-b/one", "gpu-0", memory="4Gi")
    show(index, {**held, "status": {**held["status"], "reservedFor": []}})
    assert survey.fresh
