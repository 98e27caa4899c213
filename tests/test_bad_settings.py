"""What `cgc.lower` and `cgc.plan` say about wrong options; `test_dump.py` has the same for the tool."""

import pytest
from ray.dag import InputNode

import cgc

LACKING = '[nodes.n0]\n[actors]\na = "n0"\n'
OTHER = "[calls]\nOther.method = 3\n"


def _dag():
    a, b = (cgc.abstract_actor("Stage", name=name) for name in "ab")
    with InputNode() as inp:
        return b.bwd.bind(a.fwd.bind(inp))


@pytest.mark.parametrize("compiled", [cgc.lower, cgc.plan])
@pytest.mark.parametrize(
    ("option", "value", "error", "message"),
    [
        ("pipelin", "pair-comm", TypeError, "there is no option 'pipelin'; did you mean 'pipeline'?"),
        ("pipeline", "pair-com", cgc.CgcError, "there is no pass 'pair-com' (did you mean 'pair-comm'?)"),
        ("pipeline", "pair-comm{x}", cgc.CgcError, "pair-comm has no option 'x'; it has cost-model, broadcast"),
        ("pipeline", "pair-comm", cgc.PassError, "works on level placed, but @graph is at level graph"),
        ("pipeline", "", ValueError, "`pipeline` must name passes, found ''"),
        ("topology", LACKING, cgc.GraphError, "file.toml has no actor @b; its table [actors] has a"),
        ("profile", OTHER, cgc.PassError, "file.toml has no time of any method of this graph, which calls Stage.fwd"),
        ("profile", "[calls", cgc.CgcError, "error: not TOML"),
    ],
)
def test_the_error_names_what_is_wrong(tmp_path, compiled, option, value, error, message):
    if option in ("topology", "profile"):
        path = tmp_path / "file.toml"
        path.write_text(value)
        value = path
    with pytest.raises(error) as caught:
        compiled(_dag(), **{option: value})
    assert message in str(caught.value)
