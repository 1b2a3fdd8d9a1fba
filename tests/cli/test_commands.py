"""The command line as a user meets it: in a process of its own."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
QUICKSTART = ROOT / "examples" / "quickstart" / "recipe.yaml"
COMMANDS = ("plan", "corpus", "tokenizer", "annotate", "synthesize", "tokenize", "train", "convert", "evaluate", "report", "run", "doctor")


def snow(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "megatron_snow", *map(str, arguments)], capture_output=True, text=True, env=os.environ | environment, check=False
    )


def refused(result):
    """What the user reads when something is theirs to mend: exit code 2 and no traceback."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


def test_help_lists_every_command_and_stays_light():
    result = snow("--help")
    assert result.returncode == 0
    assert all(f" {command} " in result.stdout for command in COMMANDS)
    loaded = subprocess.run([sys.executable, "-c", "import sys, megatron_snow.cli; print('torch' in sys.modules)"], capture_output=True, text=True, check=True)
    assert loaded.stdout == "False\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command):
    result = snow(command, "--help")
    assert result.returncode == 0
    assert len(result.stdout) > 200


def test_plan_of_the_quickstart(tmp_path):
    result = snow("plan", QUICKSTART, "--out", tmp_path / "out")
    assert result.returncode == 0, result.stderr
    for word in ("corpus", "missing", "never run", "general", "continued", "enhanced", "parameters", "Memory a process", "FLOPs"):
        assert word in result.stdout
    assert not (tmp_path / "out").exists()


def test_plan_of_the_papers_model():
    result = snow("plan", ROOT / "examples" / "snowcoder_1b3" / "recipe.yaml")
    assert result.returncode == 0, result.stderr
    assert "1.364B parameters" in result.stdout  # the paper's table 1: 1,364,297,728
    assert "119,210" in result.stdout  # 500B tokens at 4,194,304 a step


def test_doctor_reports_this_machine():
    result = snow("doctor")
    assert result.returncode == 0, result.stderr
    for word in ("Python", "megatron-core", "Slurm", "sandbox", "NCCL", "Transformer Engine", "C++ index", "train.fp8.recipe: blockwise"):
        assert word in result.stdout
    without_gpu = next(line for line in result.stdout.splitlines() if "train.fp8.recipe: delayed" in line)
    assert without_gpu.startswith("  -- ") and "lacks a CUDA GPU, Transformer Engine" in without_gpu  # the suite hides any GPU


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["corpus", "none.yaml"], "cannot read the recipe none.yaml"),
        (["frobnicate"], "No such command"),
        (["corpus"], "Missing argument"),
        (["plan", QUICKSTART, "--set", "modle.hidden=1"], "did you mean 'model'"),
        (["plan", QUICKSTART, "--set", "layout.tensor=3"], "layout.tensor 3 does not divide"),
        (["plan", QUICKSTART, "--gpus", "0"], "--gpus 0: give 1 at least"),
        (["plan", QUICKSTART, "--gpus", "8", "--gpu-memory", "much"], "--gpu-memory: 'much' is not a size in bytes"),
        (["train", QUICKSTART, "--phase", "fourth"], "no phase 'fourth'; it has: general, continued, enhanced"),
        (["tokenize", QUICKSTART], "run `snow corpus` first"),
    ],
)
def test_a_users_mistake_is_answered(tmp_path, arguments, complaint):
    out = [] if arguments[-1] in ("corpus", "frobnicate") else ["--out", tmp_path / "out"]
    assert complaint in refused(snow(*arguments, *out))
    assert not list((tmp_path / "out").glob("[0-9]*"))


def test_an_empty_corpus_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    source = f"corpus.sources=[{{kind: folder, name: mine, path: {tmp_path / 'data'}}}]"
    message = refused(snow("corpus", QUICKSTART, "--out", tmp_path / "out", "--set", source))
    assert str(tmp_path / "data") in message
    assert not (tmp_path / "out" / "1-corpus").exists()


def test_an_output_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "out").write_text("a file")
    assert "choose another with --out" in refused(snow("corpus", QUICKSTART, "--out", tmp_path / "out"))


@pytest.mark.parametrize("command", ["corpus", "convert", "report"])
@pytest.mark.parametrize(
    "environment",
    [
        {"RANK": "1", "WORLD_SIZE": "2"},
        {"SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_NTASKS": "2"},
    ],
)
def test_one_of_many_processes_is_refused_where_only_one_can_work(command, environment, tmp_path):
    message = refused(snow(command, QUICKSTART, "--out", tmp_path / "out", **environment))
    assert "process 2 of 2" in message and "srun --ntasks=1" in message
    assert not (tmp_path / "out").exists()


def test_a_batch_script_is_no_rank(tmp_path):
    environment = {"SLURM_PROCID": "0", "SLURM_NTASKS": "2"}
    assert "no phase 'fourth'" in refused(snow("train", QUICKSTART, "--phase", "fourth", "--out", tmp_path / "out", **environment))


WITHOUT_NAMESPACES = """
import ctypes, struct, sys
from megatron_snow.sandbox import seccomp
from megatron_snow.sandbox.launcher import prctl
code = ctypes.create_string_buffer(seccomp.program())
head = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", (len(code) - 1) // 8, ctypes.addressof(code)))
prctl(38, 1); prctl(22, 2, ctypes.addressof(head))  # no new privileges, then the sandbox's own filter, which refuses unshare
from megatron_snow.cli import main
main()
"""


def snow_without_namespaces(*arguments):
    return subprocess.run([sys.executable, "-c", WITHOUT_NAMESPACES, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", ["run", "evaluate"])
def test_a_machine_that_cannot_isolate_is_told_before_any_work(command, tmp_path):
    message = refused(snow_without_namespaces(command, QUICKSTART, "--out", tmp_path / "out"))
    assert "cannot isolate untrusted code" in message and "--set evaluate.sandbox.isolation=process" in message
    assert not (tmp_path / "out").exists()


def test_a_machine_that_cannot_isolate_goes_on_where_that_is_accepted_or_not_needed(tmp_path):
    (tmp_path / "data").mkdir()
    source = ("--out", tmp_path / "out", "--set", f"corpus.sources=[{{kind: folder, name: mine, path: {tmp_path / 'data'}}}]")
    for arguments in (("run", QUICKSTART, *source, "--set", "evaluate.sandbox.isolation=process"), ("corpus", QUICKSTART, *source)):
        message = refused(snow_without_namespaces(*arguments))
        assert "isolate" not in message and str(tmp_path / "data") in message


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
def test_ctrl_c_ends_with_130_and_no_traceback(form, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    os.mkfifo(recipe)  # the command waits in the middle of reading it, for as long as it is open here
    command = [sys.executable, "-m", "megatron_snow", "plan", str(recipe), *form]

    def hear() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a test run in the background inherits a deaf ear from its shell

    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=hear) as process, recipe.open("w"):
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on from here" in message and "Traceback" not in message
    assert not form or json.loads(message)["exit_code"] == 130


@pytest.mark.parametrize(("error", "code"), [("SnowError", 2), ("Stopped", 3), ("LostRank", 4)])
def test_a_batch_script_reads_from_the_exit_code_whether_to_requeue(error: str, code: int) -> None:
    script = (
        "from megatron_snow.artifacts import errors; from megatron_snow.cli import commands\n"
        "@commands.app.command()\n"
        f"def ends() -> None: raise errors.{error}('the same command goes on')\n"
        "commands.main()"
    )
    result = subprocess.run([sys.executable, "-c", script, "ends"], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (code, "snow: the same command goes on\n")
