import io

from megatron_snow.artifacts.progress import Progress, track


def test_line_shows_share_rate_and_eta():
    with Progress("scoring", total=10, unit="files", stream=io.StringIO()) as bar:
        bar.advance(2)
        assert "ETA" not in bar.line()  # one count is no rate
        bar.advance(3)
        line = bar.line()
    assert "5/10 files" in line
    assert "50 %" in line
    assert "ETA" in line


def test_the_eta_does_not_count_what_came_before_the_first_unit(monkeypatch):
    """Workers that take a minute to start: the rest takes as long as the units do, not as the start did."""
    now = 1000.0
    monkeypatch.setattr("megatron_snow.artifacts.progress.time.monotonic", lambda: now)
    bar = Progress("scoring", total=100, unit="files", stream=io.StringIO())
    now += 60
    bar.advance(4)
    now += 10
    bar.advance(8)
    assert bar.line().endswith("ETA 1 min 50 s")  # 88 files at 0.8 a second
    assert bar.values(final=False)["eta"] == 110.0


def test_log_file_gets_plain_lines_and_the_end():
    stream = io.StringIO()
    with Progress("reading", total=3, stream=stream) as bar:
        for _ in range(3):
            bar.advance()
    assert stream.getvalue().count("\n") == 1
    assert "\r" not in stream.getvalue()
    assert "3/3" in stream.getvalue()


def test_track_yields_everything():
    assert list(track(range(4), "counting")) == [0, 1, 2, 3]
