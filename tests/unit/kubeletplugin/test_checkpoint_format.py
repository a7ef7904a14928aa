"""A plugin reads what the version before it and the version after it wrote."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from dra_driver.errors import CheckpointUnreadable
from dra_driver.kubeletplugin.checkpoint_format import (
    CURRENT,
    VERSION,
    Contents,
    Format,
    PreparedClaim,
    PreparedShare,
    State,
    decode,
    encode,
    encode_record,
)

SHARE = PreparedShare(
    key="k1",
    request="gpu",
    pool="node-a-nvidia",
    device="gpu-0",
    share_id="s1",
    vendor="nvidia",
    device_uuid="GPU-0",
    memory=1 << 30,
    cores=30,
    whole=False,
    cdi_devices=("vgpu.hami.io/share=k1",),
)
CLAIM = PreparedClaim(uid="u1", namespace="team-a", name="train", state=State.COMPLETED, boot_id="b", shares=(SHARE,))
WRITTEN = json.loads(encode_record(CLAIM))


def file_with(document: Any) -> bytes:
    """A file as any version writes it: the checksum of the document, and the document."""
    content = json.dumps(document).encode()
    return b"sha256:" + hashlib.sha256(content).hexdigest().encode() + b"\n" + content + b"\n"


def renamed(document: dict[str, Any]) -> dict[str, Any]:
    """A step to a version of the future, which calls the claims something else on disk."""
    return {**document, "version": VERSION + 1, "claims": document["claims"]}


def test_what_is_written_is_read() -> None:
    assert decode(encode([encode_record(CLAIM)])).claims == (CLAIM,)
    assert decode(encode([])).claims == ()


def test_the_first_form_of_the_file_is_still_read() -> None:
    assert decode(file_with({"version": 1, "claims": [WRITTEN]})).claims == (CLAIM,)


def test_a_file_of_the_version_before_is_brought_up() -> None:
    old = {"version": VERSION, "claims": [{**WRITTEN, "namespace": "", "name": "team-a/train"}]}

    def split_names(document: dict[str, Any]) -> dict[str, Any]:
        claims = [
            {**claim, "namespace": claim["name"].split("/")[0], "name": claim["name"].split("/")[1]}
            for claim in document["claims"]
        ]
        return {"version": VERSION + 1, "claims": claims}

    assert decode(file_with(old), reader=Format(VERSION + 1, {VERSION: split_names})).claims == (CLAIM,)


def test_several_versions_are_brought_up_step_by_step() -> None:
    steps = {VERSION: renamed, VERSION + 1: lambda document: {**document, "version": VERSION + 2}}
    assert decode(file_with({"version": VERSION, "claims": [WRITTEN]}), reader=Format(VERSION + 2, steps)).claims == (
        CLAIM,
    )


def test_a_file_that_is_too_old_to_be_brought_up_says_so() -> None:
    with pytest.raises(CheckpointUnreadable, match="0 is too old"):
        decode(file_with({"version": 0, "claims": []}))


def test_a_later_version_that_only_adds_fields_is_read_as_far_as_ours_go() -> None:
    claim = {**WRITTEN, "novelty": 1, "shares": [{**WRITTEN["shares"][0], "novelty": {"a": 1}}]}
    later = {"version": VERSION + 1, "oldest_reader": VERSION, "claims": [claim], "novelty": []}
    assert decode(file_with(later)).claims == (CLAIM,)


def test_a_later_version_of_another_shape_is_read_from_what_it_carries_for_us() -> None:
    earlier = {"version": VERSION, "oldest_reader": VERSION, "claims": [WRITTEN]}
    later = {"version": VERSION + 1, "oldest_reader": VERSION + 1, "claims": {"u1": {}}, "earlier": earlier}
    assert decode(file_with(later)).claims == (CLAIM,)


def test_a_version_two_later_carries_ours_within_the_one_between() -> None:
    ours = {"version": VERSION, "oldest_reader": VERSION, "claims": [WRITTEN]}
    between = {"version": VERSION + 1, "oldest_reader": VERSION + 1, "claims": {}, "earlier": ours}
    later = {"version": VERSION + 2, "oldest_reader": VERSION + 2, "claims": {}, "earlier": between}
    assert decode(file_with(later)).claims == (CLAIM,)


def test_a_later_version_that_says_nothing_to_us_is_refused() -> None:
    later = {"version": VERSION + 1, "oldest_reader": VERSION + 1, "claims": []}
    with pytest.raises(CheckpointUnreadable, match=rf"version: {VERSION + 1} is not {VERSION}"):
        decode(file_with(later))


def test_our_own_file_says_who_may_read_it() -> None:
    document = json.loads(encode([encode_record(CLAIM)]).splitlines()[1])
    assert (document["version"], document["oldest_reader"]) == (CURRENT.version, 1)


def test_a_file_with_a_journal_is_not_taken_for_the_whole_by_who_knows_of_no_journals() -> None:
    raw = encode([encode_record(CLAIM)], boot_id="boot", journal=7)
    assert decode(raw) == Contents(claims=(CLAIM,), boot_id="boot", journal=7)
    with pytest.raises(CheckpointUnreadable, match="version: 2 is not 1"):
        decode(raw, reader=Format(version=1))
    assert decode(encode([encode_record(CLAIM)], boot_id="boot"), reader=Format(version=1)).claims == (CLAIM,)


@pytest.mark.parametrize("cdi_devices", [(), ("vgpu.hami.io/share=k1",)])
def test_a_claim_may_be_in_use_once_its_devices_were_told(cdi_devices: tuple[str, ...]) -> None:
    share = SHARE.model_copy(update={"cdi_devices": cdi_devices})
    assert CLAIM.model_copy(update={"shares": (share,)}).may_be_in_use is bool(cdi_devices)
