"""`cgc-dump` as a user calls it: what it prints, what it says about mistakes, and its exit codes."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cgc.dump import main
from cgc.ir import parse_module, verify_module
from cgc.passes.registry import PASSES

GRAPHS = Path(__file__).with_name("passes") / "graphs.py"

PLACED = """\
cgc.graph @g level = placed {
  cgc.actor @driver driver on "n0"
  cgc.actor @a actor class "Stage" on "n0"
  cgc.body {
    %0 = cgc.input : !cgc.object
    %1 = cgc.transfer %0 from @driver to [@a] via shm : !cgc.object
    %2 = cgc.call @a::@f(%1, opaque<0, "list of 2">) : !cgc.object
    %3 = cgc.transfer %2 from @a to [@driver] via shm : !cgc.object
    cgc.output %3
  }
}
"""

EMPTY_GRAPH = """
cgc.graph @h level = graph {
  cgc.actor @driver driver on "n0"
  cgc.body {
    %0 = cgc.input : !cgc.object
    cgc.output %0
  }
}
"""


@pytest.fixture
def dump(capsys):
    """Runs the command; returns (exit code, standard output, standard error)."""

    def run(*arguments):
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def placed(tmp_path):
    path = tmp_path / "placed.mlir"
    path.write_text(PLACED)
    return path


def test_final_ir_of_a_python_file_parses(dump):
    code, out, err = dump(f"{GRAPHS}:chain")
    assert (code, err) == (0, "")
    assert "level = allocated" in out
    verify_module(parse_module(out))


def test_after_and_before_a_pass(dump):
    assert "level = scheduled" in dump(f"{GRAPHS}:chain", "--pass", "pair-comm")[1]
    assert "level = placed" in dump(f"{GRAPHS}:chain", "--pass", "pair-comm", "--before")[1]


def test_all_passes_with_those_that_change_nothing_marked(dump):
    _, out, _ = dump(f"{GRAPHS}:chain", "--pass", "all")
    assert out.count("// ----- after ") == len(PASSES)
    assert "// ----- after verify-graph\n// unchanged\n" in out
    assert "// WhyNoOverlap: " in out


def test_diff_shows_what_a_pass_changed(dump):
    _, out, _ = dump(f"{GRAPHS}:chain", "--pass", "place-devices", "--diff")
    assert "-cgc.graph @chain level = graph" in out
    assert "+    %1 = cgc.transfer %0 from @driver to [@a] via shm" in out
    assert "cgc.program" not in out


def test_ir_file_goes_on_from_its_level(dump, placed):
    code, out, _ = dump(placed, "--pass", "pair-comm")
    assert code == 0
    assert "level = scheduled" in out


def test_ir_from_standard_input(placed):
    command = [sys.executable, "-m", "cgc.dump", "-", "--pass-pipeline", "pair-comm,verify-schedule"]
    done = subprocess.run(command, input=PLACED, capture_output=True, text=True, check=True)
    assert "cgc.program @a" in done.stdout


def test_programs_of_parsed_text_show_what_constants_look_like(dump, placed):
    assert "r1 = call f(r0, <list of 2>)" in dump(placed, "--emit", "programs")[1]


def test_pipeline_with_options(dump):
    _, out, _ = dump(
        f"{GRAPHS}:echo",
        "--pass-pipeline",
        "infer-types,place-devices,pair-comm,allocate-channels{slot-bytes=128}",
    )
    assert "slot_bytes 128" in out


def test_other_emissions(dump):
    _, out, _ = dump(f"{GRAPHS}:diamond", "--emit", "ascii", "--emit", "dot", "--emit", "programs")
    assert "@driver/execute" in out.splitlines()[0]
    assert "digraph schedule {" in out
    assert "program @d of diamond (v2)" in out


def test_plan_with_a_profile(dump, tmp_path):
    profile = tmp_path / "profile.json"
    profile.write_text(json.dumps({"calls": {"Stage.echo": 5000}}))
    _, out, _ = dump(f"{GRAPHS}:echo", "--emit", "plan", "--profile", profile)
    assert re.search(r"@a +5,00\d\.\d +\d+%", out)
    assert float(out.split()[2].replace(",", "")) > 5000


def test_topology_places_actors_and_their_links_are_slow(dump, tmp_path):
    topology = tmp_path / "cluster.toml"
    text = (
        '[nodes.n0]\n[nodes.n1]\n[actors]\na = "n1"\n[[links]]\nbetween = ["n0", "n1"]\nlatency-us = {}\ngb-per-s = 1\n'
    )
    times = {}
    for latency in (10, 7010):
        topology.write_text(text.format(latency))
        code, out, _ = dump(f"{GRAPHS}:echo", "--topology", topology, "--emit", "ir", "--emit", "plan")
        assert code == 0
        assert 'cgc.actor @a actor class "Stage" on "n1"' in out
        assert re.search(r"n0 +n1 +tcp", out)
        times[latency] = float(re.search(r"one execution +([\d,.]+)", out)[1].replace(",", ""))
    assert times[7010] - times[10] == pytest.approx(2 * 7000)


def test_a_profile_that_lacks_methods_is_a_warning(dump, tmp_path):
    profile = tmp_path / "profile.toml"
    profile.write_text("[calls]\nStage.join = 5\n")
    code, _, err = dump(f"{GRAPHS}:diamond", "--profile", profile)
    assert (code, err.count("\n")) == (0, 1)
    assert re.match(r"warning: .*profile\.toml has no time of Stage\.\w+.*: taken for 1000 µs each", err)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("line", "expected"),
    [("--pass over", ["overlap-comm"]), ("--emit pl", ["plan"]), ("--print-t", ["--print-timing"])],
)
def test_completion_of_the_shell(dump, line, expected):
    _, script, _ = dump("--print-completion", "bash")
    words = ["cgc-dump", *line.split()]
    script += f"\nCOMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _shtab_cgc_dump; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == expected


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_svg(dump):
    assert dump(f"{GRAPHS}:echo", "--emit", "svg")[1].startswith("<?xml")


def test_json_has_all_states_and_statistics(dump):
    _, out, _ = dump(f"{GRAPHS}:diamond", "--emit", "json")
    content = json.loads(out)
    assert "level = graph" in content["import"]
    by_name = {each["name"]: each for each in content["passes"]}
    assert by_name["pair-comm"]["statistics"] == {"messages": 5}
    assert by_name["overlap-comm"]["remarks"]
    (plan,) = content["plans"]
    assert plan["makespan_us"] > 3000
    assert {"from": "a", "to": "b", "transport": "shm", "bytes": 1024} in plan["traffic_bytes"]
    assert "plans" not in json.loads(dump(f"{GRAPHS}:diamond", "--pass", "pair-comm", "--emit", "json")[1])


def test_files(dump, tmp_path):
    code, out, _ = dump(f"{GRAPHS}:echo", "--pass", "all", "--emit", "ir", "--emit", "dot", "-o", tmp_path / "out")
    assert (code, out) == (0, "")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names[0] == "00_import.mlir"
    assert names[-2:] == [f"{len(PASSES):02}_emit-programs.mlir", "schedule.dot"]


def test_timing_goes_to_standard_error(dump):
    _, out, err = dump(f"{GRAPHS}:echo", "--print-timing")
    assert "µs/op" in err
    assert "µs/op" not in out


def test_list_of_passes(dump):
    code, out, _ = dump("--list-passes")
    assert code == 0
    assert "pair-comm          placed -> scheduled" in out
    assert "{slot-bytes=4096}" in out


def test_help_has_examples(dump):
    code, out, _ = dump("--help")
    assert code == 0
    assert "cgc-dump stages.py:build --pass all --diff" in out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "say what to compile: FILE.py:NAME"),
        (["{graphs}:chain", "--pass", "pair-com"], 2, "there is no pass 'pair-com' (did you mean 'pair-comm'?)"),
        (["{graphs}:chain", "--before"], 2, "--before needs --pass NAME"),
        (["{graphs}:chain", "--nonsense"], 2, "unrecognized arguments: --nonsense"),
        (["{graphs}:chain", "--emit", "pdf"], 2, "invalid choice: 'pdf'"),
        (["{graphs}:chain", "--pass-pipeline", "pair-comm{"], 2, "<pipeline>:1:11: error: expected the name"),
        (["{graphs}:chain", "--pass-pipeline", "infer-types", "--pass", "pair-comm"], 2, "none of the passes to run"),
        (["{graphs}:chains"], 2, "there is no 'chains' (did you mean 'chain'?); it has "),
        (["{graphs}"], 2, "graphs.py:NAME; it has "),
        (["nothing.mlir"], 2, "cannot read 'nothing.mlir': No such file or directory"),
        ([":chain"], 2, "say where 'chain' is: FILE.py:NAME or module:NAME"),
        (["{graphs}:chain", "--diff", "--emit", "dot"], 2, "--diff is for --emit ir"),
        (["{graphs}:chain", "--before", "--pass", "pair-comm", "--emit", "ascii"], 2, "--before is for --emit ir"),
        (["nothing.py:dag"], 2, "there is no file nothing.py"),
        (["no.such.module:dag"], 2, "there is no module no.such.module"),
        (["{graphs}:chain", "--pass-pipeline", "infer-types", "--emit", "dot"], 1, "has no schedule yet"),
        (["{graphs}:chain", "--pass-pipeline", "infer-types", "--emit", "programs"], 2, "needs the pass emit-programs"),
        (["{graphs}:chain", "--pass-pipeline", "pair-comm"], 1, "works on level placed"),
        (["{graphs}:chain", "-o", "{graphs}"], 2, "cannot write"),
        (["{graphs}:chain", "--profile", "nothing.json"], 1, "nothing.json: error: cannot read it: No such file"),
        (["{graphs}:chain", "--pass", "pair-comm", "--emit", "plan"], 2, "needs the pass allocate-channels"),
        (
            ["{graphs}:chain", "--profile", "{other}"],
            1,
            "other.toml has no time of any method of this graph, which calls",
        ),
        (["{graphs}:chain", "--topology", "nothing.toml"], 1, "nothing.toml: error: cannot read it: No such file"),
        (["{graphs}:chain", "--topology", "{lacking}"], 1, "lacking.toml has no actor @a; its table [actors] has z"),
        (["{graphs}:chain", "--topology", "{other}"], 1, "other.toml: error: the topology has no nodes"),
        (["{graphs}:chain", "--print-completion", "ksh"], 2, "invalid choice: 'ksh'"),
        (["{graphs}:chain", "--pass-pipeline", "pair-com"], 2, "there is no pass 'pair-com' (did you mean"),
        (["{graphs}:chain", "--pass-pipeline", "pair-comm{x}"], 2, "pair-comm has no option 'x'; it has cost-model"),
        (["{graphs}:chain", "--pass-pipeline", "overlap-comm{streams=1}"], 2, "takes true or false, got '1'"),
        (["{graphs}:chain", "--pass-pipeline", ""], 2, "expected the name of a pass"),
        (["{graphs}:chain", "--pass", ""], 2, "there is no pass ''"),
        (["{graphs}:chain", "-o", ""], 2, "-o needs a name, got an empty one"),
        (["{graphs}:chain", "--topology", ""], 2, "--topology needs a name, got an empty one"),
        (["{graphs}:chain", "--profile", ""], 2, "--profile needs a name, got an empty one"),
        (["{graphs}:chain", "-o", "{other}"], 2, "other.toml is no directory"),
        (["{graphs}:"], 2, "graphs.py:NAME"),
        (["{other}:chain"], 2, "other.toml is no Python file: without :chain it is read as IR"),
        (["{folder}"], 2, "Is a directory"),
        (["{graphs}:chain", "--profile", "{folder}"], 1, "cannot read it: Is a directory"),
        (["{graphs}:chain", "--topology", "{folder}"], 1, "cannot read it: Is a directory"),
        (["{empty}"], 1, "empty.mlir:1:1: error: expected an operation"),
        (["{graphs}:chain", "--topology", "{empty}"], 1, "the topology has no nodes"),
        (["{graphs}:chain", "--profile", "{binary}"], 1, "cannot read it: it is no text"),
        (["{binary}"], 2, "it is no text"),
        (["{graphs}:chain", "{graphs}:echo"], 2, "unrecognized arguments"),
        (["{mixed}"], 1, "no pass takes graphs of several levels together: @g at placed, @h at graph"),
        (["{twice}"], 1, 'Redefinition of symbol "g"'),
    ],
)
def test_mistakes_are_one_message_and_an_exit_code(dump, tmp_path, arguments, code, message):
    other, lacking = tmp_path / "other.toml", tmp_path / "lacking.toml"
    other.write_text("[calls]\nOther.method = 3\n")
    lacking.write_text('[nodes.n0]\n[actors]\nz = "n0"\n')
    places = {"{graphs}": GRAPHS, "{other}": other, "{lacking}": lacking, "{folder}": tmp_path}
    contents = {
        "empty": b"",
        "binary": b"\xff\xfe",
        "twice": PLACED.encode() * 2,
        "mixed": (PLACED + EMPTY_GRAPH).encode(),
    }
    for name, content in contents.items():
        places[f"{{{name}}}"] = tmp_path / f"{name}.mlir"
        places[f"{{{name}}}"].write_bytes(content)
    found = dump(*(re.sub("{.*?}", lambda name: str(places.get(name[0], name[0])), text) for text in arguments))
    assert found[0] == code
    assert message in found[2]
    assert "Traceback" not in found[2]


def test_malformed_ir_shows_file_line_column_and_caret(dump, tmp_path):
    path = tmp_path / "bad.mlir"
    path.write_text(PLACED.replace("via shm", "via pigeon", 1))
    code, _, err = dump(path)
    assert code == 1
    head, line, caret = err.splitlines()
    assert head.startswith(f"{path}:6:")
    assert "unknown transport 'pigeon'" in head
    assert line[caret.index("^") :].startswith("pigeon")


def test_ir_that_does_not_verify_names_the_operation(dump, tmp_path):
    path = tmp_path / "bad.mlir"
    path.write_text(PLACED.replace("@a::@f(%1", "@a::@f(%0"))
    code, _, err = dump(path)
    assert code == 1
    assert "cgc.call: operand 0 is a value of @driver; a cgc.transfer must bring it to @a first" in err


def test_a_graph_that_breaks_the_rules(dump, tmp_path):
    path = tmp_path / "user.py"
    path.write_text("from cgc import abstract_actor\n\ndef build():\n    return abstract_actor('A', 'a').f.bind(3)\n")
    code, _, err = dump(f"{path}:build")
    assert code == 1
    assert err.startswith("error: graph build cannot be compiled: the graph has no InputNode")


def test_an_exception_of_the_users_code_shows_their_lines_only(dump, tmp_path):
    path = tmp_path / "user.py"
    path.write_text("def build():\n    return 1 / 0\n")
    code, _, err = dump(f"{path}:build")
    assert code == 1
    assert err.splitlines()[0].endswith("user.py:build failed:")
    assert "return 1 / 0" in err
    assert "ZeroDivisionError" in err
    assert "cgc/dump" not in err


def test_a_method_that_the_class_lacks_is_named_with_the_closest(dump, tmp_path):
    path = tmp_path / "user.py"
    path.write_text(
        "from cgc import abstract_actor\nfrom ray.dag import InputNode\n\nclass Stage:\n    def forward(self): ...\n\n"
        "def build():\n    with InputNode() as inp:\n        return abstract_actor(Stage, 'a').forwrad.bind(inp)\n"
    )
    code, _, err = dump(f"{path}:build")
    assert code == 1
    assert 'user.py", line 9, in build' in err
    assert "class Stage of abstract_actor(a) has no method 'forwrad' (did you mean 'forward'?)" in err


def test_something_that_is_no_graph(dump, tmp_path):
    path = tmp_path / "user.py"
    path.write_text("dag = 3\n")
    code, _, err = dump(f"{path}:dag")
    assert code == 1
    assert "expected a ray.dag node" in err


@pytest.mark.parametrize(("value", "kind"), [("3", "int"), ("None", "NoneType"), ("later()", "coroutine")])
def test_what_gives_no_graph_is_named(dump, tmp_path, recwarn, value, kind):
    path = tmp_path / "user.py"
    path.write_text(f"async def later(): ...\ndef build(): return {value}\n")
    code, out, err = dump(f"{path}:build")
    assert (code, out, len(err.splitlines()), recwarn.list) == (1, "", 1, [])
    assert "user.py:build gives no graph: expected a ray.dag node" in err
    assert err.endswith(f"got {kind}\n")


@pytest.mark.parametrize("text", ["raise SystemExit\n", "def build(): raise SystemExit(0)\n"])
def test_a_program_that_ends_itself_is_no_success(dump, tmp_path, text):
    path = tmp_path / "user.py"
    path.write_text(text)
    code, out, err = dump(f"{path}:build")
    assert (code, out) == (1, "")
    assert "SystemExit" in err
    assert "Traceback" not in err


def test_ctrl_c_is_no_error_of_the_tool(dump, tmp_path):
    path = tmp_path / "user.py"
    path.write_text("def build(): raise KeyboardInterrupt\n")
    assert dump(f"{path}:build") == (130, "", "cgc-dump: interrupted\n")


def test_a_byte_order_mark_and_windows_lines_are_read(dump, placed):
    expected = dump(placed)
    placed.write_bytes(b"\xef\xbb\xbf" + PLACED.replace("\n", "\r\n").encode())
    assert dump(placed) == expected


def test_streams_that_take_not_everything(placed):
    command = [sys.executable, "-m", "cgc.dump"]
    plain = {**os.environ, "PYTHONIOENCODING": "ascii"}
    plan = subprocess.run([*command, placed, "--emit", "plan"], capture_output=True, text=True, env=plain)
    assert (plan.returncode, plan.stderr) == (0, "")
    assert r"busy \xb5s" in plan.stdout
    strange = subprocess.run([*command, "-"], input=b"\xff\xfe", capture_output=True)
    assert (strange.returncode, strange.stderr) == (2, b"cgc-dump: cannot read '<stdin>': it is no text\n")
    with open("/dev/full", "w") as full:
        late = subprocess.run([*command, placed], stdout=full, stderr=subprocess.PIPE, text=True)
    assert late.returncode == 2
    assert late.stderr.startswith("cgc-dump: cannot write standard output: No space left on device")


@pytest.mark.parametrize("arguments", ["{placed}", "{placed} --emit plan", "--list-passes"])
@pytest.mark.parametrize(
    ("redirection", "reason"), [(">&-", "it is closed"), (">/dev/full", "No space left on device")]
)
def test_standard_output_that_takes_nothing_is_one_message(placed, arguments, redirection, reason):
    command = f"{sys.executable} -m cgc.dump {arguments.format(placed=placed)} {redirection}"
    done = subprocess.run(["bash", "-c", command], stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, f"cgc-dump: cannot write standard output: {reason}\n")


def test_errors_show_a_part_of_a_long_line(dump, tmp_path):
    path = tmp_path / "long.mlir"
    path.write_text("cgc.graph @g level = graph { " + " " * 5000 + "cgc.bdy" + " " * 5000)
    code, _, err = dump(path)
    head, line, caret = err.splitlines()
    assert (code, len(line)) == (1, 242)
    assert "unknown operation 'cgc.bdy'" in head
    assert line[caret.index("^") :].startswith("cgc.bdy")
